"""Single points of failure: what stops what when it is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from freehold.config.stack import Stack
from freehold.config.target import EksTarget, NewVpc

from .cost import option_capacity
from .options import Option


def single_points(stack: Stack, chosen: Sequence[Option]) -> Iterator[str]:
    """One line for each thing of which there is one."""
    for option in chosen:
        names = ", ".join(placed.wanted.pool.name for placed in option.pools)
        name = option.offer.instance.name
        if option.replicas == 1:
            yield f"{names}: one replica; while it restarts or its {name} is replaced, no answers"
        elif alone := _only_worker_of_its_kind(option):
            yield f"{names}: one {alone} worker; while it restarts, no answers"
        elif option.nodes == 1:
            yield f"{names}: all {option.replicas} replicas are on one {name}"
        elif option_capacity(option) in ("reservation", "capacity_block"):
            yield f"{names}: all nodes are in the zone of the reservation"
    target = stack.target
    if isinstance(target, EksTarget) and isinstance(target.vpc, NewVpc) and target.vpc.nat == "one":
        yield (
            f"the NAT gateway, in {target.zones[0]}: without it no image from outside AWS; requests "
            "go on"
        )
    if stack.cache and stack.cache.redis and not stack.cache.redis.endpoint:
        yield "Redis: without it prompts are computed again; requests go on"
    if stack.observability.prometheus:
        yield "Prometheus: without it no alerts and no scaling; requests go on"


def _only_worker_of_its_kind(option: Option) -> str | None:
    for placed in option.pools:
        parts = placed.forecast.parts if placed.forecast else None
        if parts and 1 in (parts.prefill, parts.decode):
            return "prefill" if parts.prefill == 1 else "decode"
    return None
