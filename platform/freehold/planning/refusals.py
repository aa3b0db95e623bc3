"""Why a pool cannot be placed, and the nearest things that work.

The nearest things are found by trying: each pin, format, objective and way of buying is let go in
turn, and what then works is named with its price.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

from freehold.catalog.instances import load_instances
from freehold.config.capacity import CapacityKind
from freehold.config.demand import Objectives, Placement
from freehold.config.errors import nearest

from .market import Market
from .options import Option, Rules
from .placement import Search, search
from .sizing import Wanted, tensor_parallel_problem

Markets = Callable[[CapacityKind], Market]
_MOST_SUGGESTIONS = 3


def refusal(found: Search, rules: Rules, markets: Markets) -> str:
    """One line for a unit that has no option: what is wrong, and what would work instead."""
    market = found.market
    why = _why(found)
    works = list(itertools.islice(_working(found, rules, markets), _MOST_SUGGESTIONS))
    if not works:
        return f"{why}; nothing that the catalog knows in {market.place} holds it"
    return f"{why}; works: {', or '.join(works)}"


def _why(found: Search) -> str:
    unit, market = found.unit, found.market
    pin = unit[0].pool.placement
    if pin.instance_type and pin.instance_type not in {o.instance.name for o in market.offers}:
        if pin.instance_type in market.refused:
            return f"placement.instance_type: {market.refused[pin.instance_type]}"
        known = market.known()
        return (
            f'placement.instance_type: the catalog has no "{pin.instance_type}"'
            f"{nearest(pin.instance_type, known)}"
        )
    if pin.tensor_parallel:
        for wanted in unit:
            if why := tensor_parallel_problem(wanted.model, pin.tensor_parallel):
                return f"placement.{why}"
    if found.looked_at:
        return _closest(found.looked_at)
    return _too_large(found)


def _closest(options: list[Option]) -> str:
    """Of the options that miss, the one that misses least: the fastest."""

    def time(option: Option) -> float:
        forecasts = [placed.forecast for placed in option.pools if placed.forecast]
        return sum(f.median_ttft_ms + 100 * f.median_tpot_ms for f in forecasts) or 1e18

    best = min(options, key=time)
    name = best.offer.instance.name
    return f"{best.problem} on {best.nodes} x {name} ({best.split}), the nearest to what is asked"


def _too_large(found: Search) -> str:
    market, pin = found.market, found.unit[0].pool.placement
    names = [pin.instance_type] if pin.instance_type else list(found.misfits)
    reasons = [reason for name in names for reason in found.misfits.get(name or "", [])]
    if not reasons:
        if not market.offers:
            return f"nothing with a GPU can be had {market.capacity} in {market.place}"
        asked = (pin.tensor_parallel or 1) * (pin.pipeline_parallel or 1)
        return f"placement: no instance has the {asked} GPUs that the pinned ranks take"
    model = ", ".join(wanted.model.name for wanted in found.unit)
    # The last reason is that of the largest split of the last instance: the one that came closest.
    # Of a pinned instance the first says what one GPU would have to hold.
    return f"{model}: {reasons[0] if pin.instance_type else reasons[-1]}"


def _working(found: Search, rules: Rules, markets: Markets) -> Iterator[str]:
    """What works when one thing after another is let go, each the cheapest of its kind."""
    told: set[str] = set()
    for label, relaxed, other in _relaxations(found, markets):
        option = search(relaxed, other, rules).chosen
        if option is None:
            continue
        text = _said(option)
        if text not in told:  # a smaller change led there already
            told.add(text)
            yield label + text


def _relaxations(
    found: Search, markets: Markets
) -> Iterator[tuple[str, tuple[Wanted, ...], Market]]:
    """(what to say first, the changed unit, where to buy), the smallest change first."""
    unit, market = found.unit, found.market
    pin, free = unit[0].pool.placement, Placement()
    if pin.instance_type and pin != Placement(instance_type=pin.instance_type):
        yield "", _pinned(unit, Placement(instance_type=pin.instance_type)), market
    if pin.instance_type and (same := _same_machine(pin.instance_type)):
        yield "", _pinned(unit, Placement(instance_type=same)), market
    smaller = [(f"quantization: {w} on ", _with_weights(unit, w)) for w in _SMALLER]
    for label, reduced in smaller:
        if reduced and pin.instance_type:
            yield label, _pinned(reduced, Placement(instance_type=pin.instance_type)), market
    if pin != free:
        yield "", _pinned(unit, free), market
    if any(wanted.pool.objectives != Objectives() for wanted in unit):
        yield "without the objectives ", _without_objectives(_pinned(unit, free)), market
    for label, reduced in smaller:
        if reduced:
            yield label, _pinned(reduced, free), market
    for kind in ("on_demand", "capacity_block"):
        if kind != market.capacity:
            yield f"capacity {kind}: ", _pinned(unit, free), markets(kind)
    if not found.looked_at:  # it is memory that lacks
        yield from _shorter(unit, market)


# Formats to propose where the asked one does not fit, the least loss first.
_SMALLER = ("fp8", "int4", "nvfp4")


def _shorter(
    unit: tuple[Wanted, ...], market: Market
) -> Iterator[tuple[str, tuple[Wanted, ...], Market]]:
    for divisor in (2, 4, 8):
        shorter = tuple(
            _changed(wanted, context=max(16, wanted.context // divisor), demand=None)
            if wanted.model.role == "generate"
            else wanted
            for wanted in unit
        )
        context = next((w.context for w in shorter if w.model.role == "generate"), None)
        if context:
            yield f"context: {context} on ", shorter, market


def _same_machine(instance_type: str) -> str | None:
    instance = load_instances().get(instance_type)
    return instance.instead if instance else None


def _said(option: Option) -> str:
    count = f"{option.nodes} x " if option.nodes > 1 else ""
    replicas = f", {option.replicas} replicas" if option.replicas > 1 else ""
    weights = "/".join(placed.fit.checkpoint.quantization for placed in option.pools)
    reached = "".join(
        f", TTFT {placed.forecast.median_ttft_ms:,.0f} ms, TPOT {placed.forecast.median_tpot_ms:,.0f} ms"
        for placed in option.pools
        if placed.forecast
    )
    price = f", ${option.usd_per_hour:,.2f}/h" if option.usd_per_hour else ""
    name = option.offer.instance.name
    return f"{count}{name} ({weights}, {option.split}{replicas}{reached}{price})"


def _changed(wanted: Wanted, **fields: object) -> Wanted:
    return dataclasses.replace(wanted, pool=wanted.pool.model_copy(update=fields))


def _pinned(unit: tuple[Wanted, ...], pin: Placement) -> tuple[Wanted, ...]:
    return tuple(_changed(wanted, placement=pin) for wanted in unit)


def _without_objectives(unit: tuple[Wanted, ...]) -> tuple[Wanted, ...]:
    return tuple(_changed(wanted, objectives=Objectives()) for wanted in unit)


def _with_weights(unit: tuple[Wanted, ...], weights: str) -> tuple[Wanted, ...] | None:
    """The unit with the generating models in a smaller format, where all of them have one."""
    changed: list[Wanted] = []
    for wanted in unit:
        if wanted.model.role != "generate":
            changed.append(wanted)
            continue
        smaller = wanted.model.checkpoint(weights)
        if smaller is None or smaller in wanted.checkpoints:
            return None
        changed.append(dataclasses.replace(wanted, checkpoints=(smaller,)))
    return tuple(changed) if any(w.model.role == "generate" for w in unit) else None
