"""What the plan promises, as recorded series: thresholds, predictions and prices of one stack.

The committed rules compare what is live with `plan:*`; only these differ from stack to stack. A series
that the plan has no word on is left out, and whatever would compare with it stays silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from freehold.config.capacity import CapacityBlock
from freehold.config.errors import FreeholdError
from freehold.planning.cost import HOURS_A_MONTH
from freehold.planning.plan import NodeGroup, Plan, PoolPlan

# Objectives of the stack file are medians. A request counts as slow beyond twice the median that was
# asked for, and so many of a pool's requests may be slow; so many of all may fail. Freehold's own
# choices (docs/decisions/0030-what-counts-as-slow.md).
SLOW_FACTOR = 2.0
SLOW_SHARE = 0.05
ERROR_SHARE = 0.005

# Requests waiting at a worker, where the stack file does not limit its queue.
_QUEUE = 64

# Bounds of vLLM 0.32's histograms in seconds (vllm/v1/metrics/loggers.py): a share of slow requests can
# be counted at these alone.
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TPOT_BOUNDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)

# Every name below with its labels: what committed rules and dashboards may read.
PLAN_SERIES: dict[str, frozenset[str]] = {
    "plan:slow_ttft_bound": frozenset({"pool", "le"}),
    "plan:slow_tpot_bound": frozenset({"pool", "le"}),
    "plan:slow_share": frozenset(),
    "plan:error_share": frozenset(),
    "plan:objective": frozenset({"pool", "figure"}),
    "plan:figure": frozenset({"pool", "figure"}),
    "plan:replicas": frozenset({"pool"}),
    "plan:queue": frozenset({"pool"}),
    "plan:startup_seconds": frozenset({"pool"}),
    "plan:rollout": frozenset({"pool", "of"}),
    "plan:prefix_hit_ratio": frozenset({"pool"}),
    "plan:gpu_usd_per_hour": frozenset({"pool"}),
    "plan:node_usd_per_hour": frozenset({"node_group"}),
    "plan:other_usd_per_hour": frozenset(),
    "plan:usd_per_hour": frozenset(),
    "plan:budget_usd_per_hour": frozenset(),
    "plan:capacity_ends_timestamp_seconds": frozenset({"node_group"}),
}


@dataclass(frozen=True)
class PlanSeries:
    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def plan_series(plan: Plan, budget_usd_per_month: float | None = None) -> list[PlanSeries]:
    """Everything that the plan of this stack says; times are in seconds, money in US dollars."""
    found = [
        PlanSeries("plan:slow_share", SLOW_SHARE),
        PlanSeries("plan:error_share", ERROR_SHARE),
        *_money(plan),
    ]
    for pool in plan.pools:
        found += _of_pool(pool)
    for group in plan.node_groups:
        if isinstance(group.capacity, CapacityBlock) and group.capacity.ends:
            ends = group.capacity.ends.timestamp()
            label = (("node_group", group.name),)
            found.append(PlanSeries("plan:capacity_ends_timestamp_seconds", ends, label))
    if budget_usd_per_month is not None:
        hourly = round(budget_usd_per_month / HOURS_A_MONTH, 5)
        found.append(PlanSeries("plan:budget_usd_per_hour", hourly))
    return found


def plan_rules(plan: Plan, budget_usd_per_month: float | None = None) -> dict[str, Any]:
    """The same as a Prometheus rule file."""
    rules = [
        {
            "record": one.name,
            "expr": f"vector({one.value!r})",
            **({"labels": dict(one.labels)} if one.labels else {}),
        }
        for one in plan_series(plan, budget_usd_per_month)
    ]
    return {"groups": [{"name": "plan", "rules": rules}]}


def _of_pool(pool: PoolPlan) -> Iterator[PlanSeries]:
    label = (("pool", pool.name),)
    options = pool.settings.options
    yield PlanSeries("plan:replicas", float(pool.replicas), label)
    yield PlanSeries("plan:queue", float(options.max_queued_requests or _QUEUE), label)
    if pool.sizing:
        yield PlanSeries("plan:startup_seconds", round(pool.sizing.startup.total, 1), label)
    if pool.rollout and pool.rollout.percent:
        labels = (("of", pool.rollout.of), ("pool", pool.name))
        yield PlanSeries("plan:rollout", pool.rollout.percent, labels)
    if pool.demand and pool.demand.prefix_hit_rate and pool.role == "generate":
        yield PlanSeries("plan:prefix_hit_ratio", pool.demand.prefix_hit_rate, label)
    yield from _objectives(pool)
    yield from _figures(pool)


def _objectives(pool: PoolPlan) -> Iterator[PlanSeries]:
    asked = {
        "ttft": (pool.objectives.median_ttft_ms, TTFT_BOUNDS),
        "tpot": (pool.objectives.median_tpot_ms, TPOT_BOUNDS),
    }
    for figure, (milliseconds, bounds) in asked.items():
        if milliseconds is None:
            continue
        objective = milliseconds / 1000
        labels = (("figure", f"median_{figure}_seconds"), ("pool", pool.name))
        yield PlanSeries("plan:objective", objective, labels)
        bound = _bound(objective * SLOW_FACTOR, bounds, pool.name)
        labels = (("le", repr(bound)), ("pool", pool.name))
        yield PlanSeries(f"plan:slow_{figure}_bound", 1.0, labels)


def _bound(limit: float, bounds: tuple[float, ...], pool: str) -> float:
    """The histogram's bound nearest above the limit."""
    above = [bound for bound in bounds if bound >= limit]
    if not above:
        raise FreeholdError(
            f"pool {pool}: vLLM counts no request slower than {bounds[-1]:g} s apart, so an objective "
            f"beyond {bounds[-1] / SLOW_FACTOR:g} s cannot be watched: lower it or leave it out"
        )
    return above[0]


def _figures(pool: PoolPlan) -> Iterator[PlanSeries]:
    """The planned figures under the names that recording rules give the live ones."""
    forecast = pool.predicted
    if forecast is None:
        return
    figures = {
        "median_ttft_seconds": forecast.median_ttft_ms / 1000,
        "median_tpot_seconds": forecast.median_tpot_ms / 1000,
        "median_itl_seconds": forecast.median_itl_ms / 1000,
        "output_tokens_per_second": forecast.output_throughput,
        "total_tokens_per_second": forecast.total_token_throughput,
        "requests_per_second": forecast.request_throughput,
        "concurrency": forecast.concurrency,
    }
    for figure, value in figures.items():
        labels = (("figure", figure), ("pool", pool.name))
        yield PlanSeries("plan:figure", round(value, 6), labels)


def _money(plan: Plan) -> Iterator[PlanSeries]:
    """Prices, where the plan has any: a laptop and machines without a price cost nothing here."""
    cost = plan.cost
    if cost is None or not cost.usd_per_hour:
        return
    yield PlanSeries("plan:usd_per_hour", round(cost.usd_per_hour, 5))
    other = cost.usd_per_hour - cost.gpu_usd_per_hour
    yield PlanSeries("plan:other_usd_per_hour", round(other, 5))
    for group in plan.node_groups:
        if group.usd_per_hour:
            each = round(group.usd_per_hour / group.nodes, 5)
            yield PlanSeries("plan:node_usd_per_hour", each, (("node_group", group.name),))
            yield from _shares(group, plan)


def _shares(group: NodeGroup, plan: Plan) -> Iterator[PlanSeries]:
    """A group's price falls on the pools that generate, in equal parts: those that embed and rerank
    beside them live on what is left over. Without such, on all of its pools."""
    members = [pool for pool in plan.pools if pool.name in group.pools]
    bearers = [pool for pool in members if pool.role == "generate"] or members
    for pool in bearers:
        usd = round(group.usd_per_hour / len(bearers), 5)
        yield PlanSeries("plan:gpu_usd_per_hour", usd, (("pool", pool.name),))
