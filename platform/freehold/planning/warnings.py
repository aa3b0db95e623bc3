"""What a person should know before believing a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from freehold.catalog.prices import load_prices, load_system_nodes
from freehold.config.capacity import CapacityBlock
from freehold.config.engine import DraftModelSpeculation, NgramSpeculation
from freehold.config.stack import Stack
from freehold.config.target import EksTarget, NewVpc

from .forecast import Forecaster
from .market import HOME_REGION, days_old
from .options import Option, Placed
from .placement import transfer
from .trap import is_trap

STALE_DAYS = 90

# The tiers' contexts (docs/plan.md).
_TIER_CONTEXT = {"small": (2_000, 20_480), "medium": (20_000, 51_200), "large": (50_000, 10**9)}


def plan_warnings(stack: Stack, chosen: Sequence[Option], today: str | None) -> Iterator[str]:
    """In the order in which they matter to a decision: what may not work, then what is not known."""
    for option in chosen:
        yield from _capacity(option)
        for placed in option.pools:
            yield from _pool(stack, option, placed)
        yield from _price(option)
    yield from _region(stack)
    if today:
        yield from _stale(stack, chosen, today)


def _capacity(option: Option) -> Iterator[str]:
    names = ", ".join(placed.wanted.pool.name for placed in option.pools)
    capacity = option.pools[0].wanted.pool.capacity
    if isinstance(capacity, CapacityBlock) and not capacity.bought:
        yield (
            f"{names}: the Capacity Block is not bought yet: buy {option.nodes} x "
            f"{option.offer.instance.name}, then put its id, zone and ends into the stack file; "
            "nothing can be created before"
        )
    if capacity and capacity.kind == "spot" and option.replicas == 1:
        yield (
            f"{names}: Spot is taken away with two minutes' notice, and one replica takes longer to "
            "start: expect outages"
        )
    if is_trap(option.offer, option.split):
        yield (
            f"{names}: tensor parallel over {option.split.tensor_parallel} {option.offer.gpu.name} "
            "is over PCIe, which loses beyond two; see the ways around it"
        )


def _pool(stack: Stack, option: Option, placed: Placed) -> Iterator[str]:
    wanted, name = placed.wanted, placed.wanted.pool.name
    model = wanted.model
    calibration, basis = wanted.pool.calibration, placed.forecast.basis if placed.forecast else ""
    if calibration and not basis.startswith("calibrated"):
        yield (
            f"{name}: the calibration in the stack file is of {calibration.deployment}, which this plan "
            "does not use: measure again, or pin the placement"
        )
    if basis and not basis.startswith(("measured", "calibrated")):
        yield f"{name}: {model.name} on {option.offer.gpu.name}: {basis}"
    if placed.forecast and len(option.pools) > 1:
        yield f"{name}: predicted as if the other pools on its GPU were idle"
    if unverified := [field for field in model.unverified if field in _FIELDS_THAT_MATTER]:
        yield f"{name}: no source was found for {model.name}'s {', '.join(unverified)}"
    if model.gated:
        yield f"{name}: {placed.fit.checkpoint.repo} may be gated: accept {model.licence}, set HF_TOKEN"
    yield from _speculation(placed)
    yield from _disaggregated(stack, option, placed)
    yield from _tier(stack, placed)
    if option.split.tensor_parallel > 1 and "all_reduce" in option.offer.gpu.unverified:
        yield f"{name}: nobody measured all-reduce between {option.offer.gpu.name}s"


_FIELDS_THAT_MATTER = {
    "active_parameters",
    "attention",
    "checkpoints",
    "gated",
    "licence",
    "parameters",
}


def _speculation(placed: Placed) -> Iterator[str]:
    options, demand = placed.wanted.pool.engine.speculation, placed.wanted.pool.demand
    name = placed.wanted.pool.name
    if options is None:
        return
    if demand and not demand.accepted_tokens:
        yield (
            f"{name}: speculation is predicted to gain nothing until demand.accepted_tokens says how "
            "many guesses a step are accepted: measure it"
        )
    if isinstance(options, DraftModelSpeculation) and placed.wanted.draft is None:
        yield (
            f"{name}: the catalog does not know the draft model {options.model}: its memory and time "
            "are not in the plan"
        )
    elif not isinstance(options, NgramSpeculation) and placed.forecast is None:
        yield f"{name}: speculation without a demand has no effect on the plan"


def _disaggregated(stack: Stack, option: Option, placed: Placed) -> Iterator[str]:
    """What taking a pool apart costs and gains, beside the same workers left whole."""
    name, demand, moves = (
        placed.wanted.pool.name,
        placed.wanted.pool.demand,
        transfer(placed, option),
    )
    if moves is None or demand is None or placed.forecast is None or placed.forecast.parts is None:
        return
    over = "" if moves.measured else " of TCP (no EFA is set up; RDMA of your own: link_gbps)"
    yield (
        f"{name}: the KV cache of {demand.input_tokens:,} tokens is {moves.gigabytes:.2f} GB: at "
        f"{moves.gbps:g} Gbit/s{over} moving it adds {moves.seconds * 1e3:,.0f} ms to TTFT"
    )
    whole = Forecaster(placed.wanted, placed.fit).at(option.replicas)
    instead = (
        f"TTFT {whole.median_ttft_ms:,.0f} ms, TPOT {whole.median_tpot_ms:,.0f} ms"
        if whole
        else "too few for the demand"
    )
    yield f"{name}: the same {option.replicas} workers without disaggregated: {instead}"
    if demand.prefix_hit_rate and placed.forecast.parts.prefill > 1:
        yield (
            f"{name}: prefix_hit_rate {demand.prefix_hit_rate:g} is counted on, but vllm-router spreads "
            f"prompts by load: each of {placed.forecast.parts.prefill} prefill workers must have read a "
            "prefix itself"
        )
    if stack.cache:
        yield f"{name}: disaggregated workers keep nothing in the stack's cache"


def _tier(stack: Stack, placed: Placed) -> Iterator[str]:
    if stack.tier is None or placed.wanted.model.role != "generate":
        return
    low, high = _TIER_CONTEXT[stack.tier]
    if not low <= placed.wanted.context <= high:
        fitting = next(t for t, (a, b) in _TIER_CONTEXT.items() if placed.wanted.context <= b)
        yield (
            f"{placed.wanted.pool.name}: a context of {placed.wanted.context:,} tokens is tier "
            f"{fitting}'s, not {stack.tier}'s: load tests follow the tier"
        )


def _price(option: Option) -> Iterator[str]:
    name, price = option.offer.instance.name, option.offer.price
    if option.offer.estimated:
        yield f"the price of {name} here is not known: ${price.usd} an hour stands in ({price.source})"
    if price.highest_unknown:
        yield f"of {name} only the lowest Spot price is known, ${price.usd} an hour: expect more"


def _region(stack: Stack) -> Iterator[str]:
    if isinstance(stack.target, EksTarget) and stack.target.region != HOME_REGION:
        us = stack.target.region in ("us-east-2", "us-west-2")
        if not us:
            yield (
                f"everything but GPU nodes is priced as in {HOME_REGION}: {stack.target.region} is "
                "somewhat dearer"
            )


def _stale(stack: Stack, chosen: Sequence[Option], today: str) -> Iterator[str]:
    """Rows that the cost rests on and that are older than they should be."""
    rows = {option.offer.instance.name: option.offer.price.date for option in chosen}
    dates: dict[str, list[str]] = {"instances.yaml": [], "prices.yaml": []}
    for name, date in rows.items():
        if date and days_old(date, today) > STALE_DAYS:
            dates["instances.yaml"].append(f"{name} ({date})")
    if isinstance(stack.target, EksTarget):
        vpc = stack.target.vpc
        endpoints = isinstance(vpc, NewVpc) and vpc.interface_endpoints
        fixed = {
            name: price.date
            for name, price in load_prices().items()
            if endpoints or name != "interface_endpoint_zone"
        }
        system = stack.target.system.instance_type
        fixed[system] = load_system_nodes()[system].date
        dates["prices.yaml"] = [
            f"{name.replace('_', ' ')} ({date})"
            for name, date in fixed.items()
            if days_old(date, today) > STALE_DAYS
        ]
    for file, old in dates.items():
        if old:
            yield (
                f"prices older than {STALE_DAYS} days: {', '.join(old)}; refresh "
                f"platform/freehold/catalog/{file} as its first lines say"
            )
