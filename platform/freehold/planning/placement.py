"""Placement: every feasible (instance, split, replicas, quantization), ranked by price.

The cheapest that meets the objectives is chosen; of several at the same price the one with the
weights nearest to the published ones, then the fastest. What is pinned in the stack file is not
searched, so a change of price never moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .candidates import candidates, with_replicas
from .disaggregation import DisaggregatedForecaster, Transfer, transfer_of
from .forecast import Forecaster, deployment_of
from .market import Market
from .options import Option, Placed, Rules, pinned
from .sizing import Wanted

_MOST_REPLICAS = 32


@dataclass
class Search:
    """What was found for a unit."""

    unit: tuple[Wanted, ...]
    market: Market
    chosen: Option | None = None
    looked_at: list[Option] = field(default_factory=list)
    """Options with a forecast, the chosen one among them, by rank."""
    too_dear: list[Option] = field(default_factory=list)
    """Options whose least price is above the chosen one's; not forecast."""
    misfits: dict[str, list[str]] = field(default_factory=dict)
    """Instance -> why nothing of it fits."""


def search(unit: tuple[Wanted, ...], market: Market, rules: Rules) -> Search:
    """Look for the cheapest option; everything that lost keeps its reason."""
    found = Search(unit, market)
    forecasters = _Forecasters()
    in_order = sorted(candidates(unit, market, rules, found.misfits), key=lambda o: o.rank)
    for candidate in in_order:
        if found.chosen and candidate.usd_per_hour > found.chosen.usd_per_hour:
            found.too_dear.append(candidate)
            continue
        option = look_closely(candidate, rules, forecasters)
        found.looked_at.append(option)
        if option.problem is None and (not found.chosen or option.rank < found.chosen.rank):
            found.chosen = option
    found.looked_at.sort(key=lambda option: option.rank)
    return found


class _Forecasters:
    """One forecaster for the same pool, GPU, weights and split: instances differ in price only."""

    def __init__(self) -> None:
        self._kept: dict[object, Forecaster] = {}

    def of(self, placed: Placed, option: Option, rules: Rules) -> Forecaster:
        engine = placed.fit.engine
        moves = transfer(placed, option)
        key = (
            placed.wanted.pool.name,
            placed.fit.gpu.name,
            engine.weights,
            engine.split,
            placed.fit.memory.share,
            moves,
        )
        if key not in self._kept:
            self._kept[key] = (
                DisaggregatedForecaster(placed.wanted, placed.fit, moves, ha=rules.ha)
                if moves
                else Forecaster(placed.wanted, placed.fit)
            )
        return self._kept[key]


def transfer(placed: Placed, option: Option) -> Transfer | None:
    """What moving a prompt's KV cache takes, of a pool that is taken apart."""
    if placed.wanted.pool.disaggregated is None or placed.wanted.pool.demand is None:
        return None
    network = option.offer.instance.network_gbps
    deployment = deployment_of(placed.wanted, placed.fit)
    return transfer_of(placed.wanted, deployment, network, option.replicas_per_node)


def look_closely(option: Option, rules: Rules, forecasters: _Forecasters | None = None) -> Option:
    """The option with as many replicas as the demand and the objectives take, and its forecast."""
    kept = forecasters or _Forecasters()
    pin = pinned(option.pools).replicas
    if not any(_has_speed(placed) for placed in option.pools):
        return _within_stock(option)

    def short(replicas: int) -> bool:
        return _shortfall(option, replicas, kept, rules) is not None

    replicas = pin or _fewest(short, option.replicas)
    resized = with_replicas(option, replicas, rules)
    why = _shortfall(option, replicas, kept, rules)
    if why and not pin:
        why += f" (even with {replicas} replicas)"
    pools = tuple(
        replace(placed, forecast=kept.of(placed, option, rules).at(replicas))
        if _has_speed(placed)
        else placed
        for placed in option.pools
    )
    return _within_stock(replace(resized, pools=pools, problem=why))


def _has_speed(placed: Placed) -> bool:
    """The latency model knows generating, and asks what load."""
    return placed.wanted.model.role == "generate" and placed.wanted.pool.demand is not None


def _fewest(short: Callable[[int], bool], least: int) -> int:
    """The fewest replicas that do; as many as are ever tried when none do."""
    if not short(least):
        return least
    low, high = least, max(least, _MOST_REPLICAS)
    if short(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if short(middle) else (low, middle)
    return high


def _shortfall(option: Option, replicas: int, kept: _Forecasters, rules: Rules) -> str | None:
    """What so many replicas do not reach, worst first; None when they do."""
    for placed in option.pools:
        if not _has_speed(placed):
            continue
        pool = placed.wanted.pool
        who = f"{pool.name}: " if len(option.pools) > 1 else ""
        forecast = kept.of(placed, option, rules).at(replicas)
        if forecast is None and (moves := transfer(placed, option)):
            return (
                f"{who}{replicas} x {option.split}, some reading and some writing, with "
                f"{moves.gbps:g} Gbit/s between two of them, carry less than the demand"
            )
        if forecast is None:
            return (
                f"{who}{replicas} x {option.split} holds "
                f"{replicas * placed.fit.at_typical_length} requests of "
                f"{placed.wanted.request_tokens:,} tokens, fewer than the demand"
            )
        asked = pool.objectives
        for name, value, limit in (
            ("TTFT", forecast.median_ttft_ms, asked.median_ttft_ms),
            ("TPOT", forecast.median_tpot_ms, asked.median_tpot_ms),
        ):
            if limit is not None and value > limit:
                return f"{who}median {name} {value:,.0f} ms, {limit:,g} asked for"
    return None


def _within_stock(option: Option) -> Option:
    count = option.offer.instance.count
    if option.problem is None and count is not None and option.nodes > count:
        name = option.offer.instance.name
        return replace(option, problem=f"needs {option.nodes} {name}, {count} are free")
    return option
