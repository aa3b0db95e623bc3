"""The PCIe trap: tensor parallel over more than two GPUs without NVLink loses.

Every layer ends in two all-reduces. vLLM's own fast one is refused beyond two PCIe-only GPUs, NCCL's
rings take its place, and four L40S then sum at 5 GB/s where two reach 20 (measured tables in
catalog/gpus.yaml). Pipeline stages, replicas, a smaller format or NVLink use the same money better;
this shows by how much, for the pool at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from freehold.config.demand import Objectives, Placement

from .market import Market, Offer
from .memory import Split
from .options import Option, Rules
from .placement import search
from .sizing import Wanted

_TRAPPED_RANKS = 2
"""Ranks beyond this lose on PCIe."""


@dataclass(frozen=True)
class Way:
    """One way to run the pool: the option, or why there is none."""

    name: str
    machine: str
    option: Option | None
    why_not: str | None = None


def is_trap(offer: Offer, split: Split) -> bool:
    return offer.gpu.interconnect.startswith("pcie") and split.tensor_parallel > _TRAPPED_RANKS


def ways_around(
    wanted: Wanted, market: Market, rules: Rules, chosen: Option | None
) -> tuple[Way, ...]:
    """The trap and the ways around it; empty where the pool has no reason to fall into it.

    Objectives are let go, so that each way shows what it would do.
    """
    offer = _trap_offer(wanted, market, chosen)
    if offer is None:
        return ()
    free = dataclasses.replace(
        wanted, pool=wanted.pool.model_copy(update={"objectives": Objectives()})
    )
    best: dict[str, Way] = {}
    for way in _ways(free, offer, market):
        tried = _tried(way, rules)
        best[tried.name] = max(best.get(tried.name, tried), tried, key=_worth)
    working = [way.name for way in best.values() if way.option]
    return tuple(best.values()) if "the trap" in working and len(working) > 1 else ()


def _worth(way: Way) -> float:
    return (way.option.tokens_per_dollar or 0.0) if way.option else -1.0


def _tried(way: tuple[str, Wanted, Market], rules: Rules) -> Way:
    name, wanted, market = way
    found = search((wanted,), market, rules)
    machine = wanted.pool.placement.instance_type or "any"
    if found.chosen:
        return Way(name, found.chosen.offer.instance.name, found.chosen)
    reasons = [option.problem for option in found.looked_at]
    reasons += [reason for why in found.misfits.values() for reason in why]
    return Way(name, machine, None, reasons[-1] if reasons else "not to be had")


def _trap_offer(wanted: Wanted, market: Market, chosen: Option | None) -> Offer | None:
    """The PCIe instance that the pool would be put on with tensor parallel over all its GPUs."""
    if wanted.model.role != "generate" or wanted.pool.gpu_group:
        return None
    offers = [
        offer
        for offer in market.offers
        if offer.gpu.interconnect.startswith("pcie") and offer.instance.gpus > _TRAPPED_RANKS
    ]
    pin = wanted.pool.placement.instance_type
    if pinned := next((offer for offer in offers if offer.instance.name == pin), None):
        return pinned
    if chosen and chosen.split.gpus == 1:
        return None  # one GPU is enough: nobody would split it
    l40s = [offer for offer in offers if offer.gpu.name == "L40S"]
    return min(l40s or offers, key=lambda offer: offer.usd_per_hour, default=None)


def _ways(wanted: Wanted, offer: Offer, market: Market) -> Iterator[tuple[str, Wanted, Market]]:
    """Each uses the whole machine, so that a dollar is compared with a dollar."""
    name, gpus = offer.instance.name, offer.instance.gpus
    here = dataclasses.replace(market, offers=(offer,))
    yield "the trap", _pinned(wanted, name, Split(gpus, 1), 1), here
    yield "pipeline parallel", _pinned(wanted, name, Split(1, gpus), 1), here
    if gpus >= 4:
        yield "both", _pinned(wanted, name, Split(2, gpus // 2), 1), here
    for ranks in (1, 2):
        yield (
            "replicas",
            _pinned(wanted, name, Split(ranks, 1), gpus // ranks),
            here,
        )
    for weights in ("fp8", "int4"):
        smaller = wanted.model.checkpoint(weights)
        if smaller and smaller not in wanted.checkpoints:
            for ranks in (1, 2):
                reduced = _pinned(wanted, name, Split(ranks, 1), gpus // ranks)
                yield (
                    f"{weights} weights",
                    dataclasses.replace(reduced, checkpoints=(smaller,)),
                    here,
                )
    linked = tuple(o for o in market.offers if o.gpu.interconnect.startswith("nvlink"))
    free = dataclasses.replace(
        wanted, pool=wanted.pool.model_copy(update={"placement": Placement()})
    )
    yield "NVLink", free, dataclasses.replace(market, offers=linked)


def _pinned(wanted: Wanted, instance: str, split: Split, replicas: int) -> Wanted:
    pin = Placement(
        instance_type=instance,
        tensor_parallel=split.tensor_parallel,
        pipeline_parallel=split.pipeline_parallel,
        replicas=replicas,
    )
    return dataclasses.replace(wanted, pool=wanted.pool.model_copy(update={"placement": pin}))
