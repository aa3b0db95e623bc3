"""Candidates: what fits, on which instance, in which split, with the fewest replicas that hold it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from freehold.catalog.gpus import Gpu
from freehold.catalog.models import Checkpoint
from freehold.config.demand import Placement

from .host import HostNeed, allocatable, engine_need, replicas_that_fit
from .market import Market, Offer
from .memory import Split
from .options import Option, Placed, Rules, pinned
from .sharing import shares
from .sizing import Fit, Wanted, size

_SPLITS = (1, 2, 4, 8)


def candidates(
    unit: tuple[Wanted, ...], market: Market, rules: Rules, misfits: dict[str, list[str]]
) -> Iterator[Option]:
    """Everything that fits, with the fewest replicas that its memory allows."""
    pin = pinned(unit)
    sized: dict[tuple[str, Split, tuple[Checkpoint, ...]], tuple[Fit, ...] | str] = {}
    for offer in market.offers:
        name = offer.instance.name
        if pin.instance_type and name != pin.instance_type:
            continue
        for split in splits(offer, pin, alone=len(unit) == 1):
            need = _host_need(unit, split, rules)
            per_node = min(
                offer.instance.gpus // split.gpus, replicas_that_fit(offer.instance, need)
            )
            for checkpoints in itertools.product(*(wanted.checkpoints for wanted in unit)):
                key = (offer.gpu.name, split, checkpoints)
                if key not in sized:
                    sized[key] = size_unit(unit, checkpoints, split, offer.gpu)
                fits = sized[key]
                if isinstance(fits, str):
                    misfits.setdefault(name, []).append(fits)
                    continue
                if per_node == 0:
                    misfits.setdefault(name, []).append(_too_small(offer, need))
                    continue
                yield _least(unit, fits, offer, split, per_node, rules)


def _too_small(offer: Offer, need: HostNeed) -> str:
    has = allocatable(offer.instance)
    disk = f", {need.nvme_gib:.0f} GiB of disk" if need.nvme_gib else ""
    left = f", {has.nvme_gib:.0f} GiB of disk" if need.nvme_gib else ""
    return (
        f"a replica's pods ask for {need.vcpu:g} vCPU, {need.ram_gib:.1f} GiB{disk}; "
        f"{offer.instance.name} has {has.vcpu:.1f} vCPU, {has.ram_gib:.1f} GiB{left} for them"
    )


def size_unit(
    unit: tuple[Wanted, ...], checkpoints: tuple[Checkpoint, ...], split: Split, gpu: Gpu
) -> tuple[Fit, ...] | str:
    """All pools of a unit on the same GPUs, or why one of them does not fit."""
    divided = shares(unit, checkpoints, gpu)
    if isinstance(divided, str):
        return divided
    fits: list[Fit] = []
    for wanted, checkpoint, share in zip(unit, checkpoints, divided, strict=True):
        fit = size(wanted, checkpoint, split, gpu, share)
        if isinstance(fit, str):
            return fit if len(unit) == 1 else f"{wanted.pool.name}: {fit}"
        fits.append(fit)
    return tuple(fits)


def _least(
    unit: tuple[Wanted, ...],
    fits: tuple[Fit, ...],
    offer: Offer,
    split: Split,
    per_node: int,
    rules: Rules,
) -> Option:
    pools = tuple(Placed(wanted, fit, None) for wanted, fit in zip(unit, fits, strict=True))
    least = max((_least_replicas(placed) for placed in pools), default=1)
    if rules.ha:
        least = max(2, least)
    if apart := unit[0].pool.disaggregated:
        each = 2 if rules.ha else 1
        writers = max(least, apart.decode_replicas or each)
        least = (apart.prefill_replicas or each) + writers
    option = Option(offer, split, pools, least, per_node, 1)
    return with_replicas(option, pinned(unit).replicas or least, rules)


def _least_replicas(placed: Placed) -> int:
    """By memory alone, where the demand says how many requests are in flight."""
    demand = placed.wanted.pool.demand
    if placed.wanted.model.role != "generate" or not demand or demand.concurrency is None:
        return 1
    return math.ceil(demand.concurrency / placed.fit.at_typical_length)


def _host_need(unit: tuple[Wanted, ...], split: Split, rules: Rules) -> HostNeed:
    need = HostNeed(0.0, 0.0)
    for wanted in unit:
        need += engine_need(wanted.pool, split.gpus, rules.cache)
    return need


def splits(offer: Offer, pin: Placement, *, alone: bool) -> Iterator[Split]:
    """Tensor and pipeline ranks that this instance has GPUs for; a shared GPU is not split."""
    tensor = (pin.tensor_parallel,) if pin.tensor_parallel else _SPLITS
    pipeline = (pin.pipeline_parallel,) if pin.pipeline_parallel else _SPLITS
    for stages in pipeline if alone else (1,):
        for ranks in tensor if alone else (1,):
            if ranks * stages <= offer.instance.gpus:
                yield Split(ranks, stages)


def with_replicas(option: Option, replicas: int, rules: Rules) -> Option:
    """The option with so many replicas, on as many nodes as they take."""
    nodes = max(math.ceil(replicas / option.replicas_per_node), 2 if rules.ha else 1)
    return replace(option, replicas=replicas, nodes=nodes)
