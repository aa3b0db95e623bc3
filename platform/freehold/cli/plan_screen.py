"""One screen a person can decide from: what runs where, what it holds, how fast, what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from freehold.config.bedrock import BedrockTarget
from freehold.config.target import EksTarget, LocalTarget
from freehold.planning.plan import Plan, PoolPlan
from freehold.planning.sealing import sealing_lines

from .plan_choices import cost_table, hosted_lines, search_table, ways_table
from .plan_pools import memory_table, pools_table

# In a narrower terminal lines wrap, but nothing is left out.
_WIDTH = 110


def show(plan: Plan, *, alternatives: bool) -> None:
    """Print the plan; with `alternatives` every option that was considered."""
    console = Console(width=max(Console().width, _WIDTH))
    console.print(_heading(plan))
    console.print(pools_table(plan))
    if plan.cost is None:
        console.print("\nnothing is bought: `freehold up` runs it on this machine")
        return
    if any(pool.sizing for pool in plan.pools):
        console.print(memory_table(plan))
    console.print(cost_table(plan.cost))
    _print_list(console, "against hosted APIs", hosted_lines(plan))
    for pool in plan.pools:
        for table in _lost_to(pool, alternatives=alternatives):
            console.print(table)
        if pool.ways:
            console.print(ways_table(pool))
    _print_list(console, "sealed tenants", sealing_lines(plan))
    _print_list(console, "single points of failure", plan.single_points_of_failure)
    _print_list(console, "first token from zero", _startups(plan))
    _print_list(console, "warnings", plan.warnings, style="yellow")


def _heading(plan: Plan) -> Text:
    target = plan.target
    if isinstance(target, EksTarget):
        where = f"EKS in {target.region}"
    elif isinstance(target, BedrockTarget):
        door = f"on EKS in {target.cluster.region}" if target.cluster else "on this machine"
        where = f"Bedrock in {target.region}, gateway {door}"
    else:
        local = isinstance(target, LocalTarget)
        where = "this machine" if local else f"cluster {target.context}"
    parts = [where]
    if plan.tier:
        parts.append(f"tier {plan.tier}")
    if plan.ha:
        parts.append("survives the loss of a zone")
    if plan.hours:
        parts.append(f"{plan.hours.a_week:g} hours a week")
    if not isinstance(target, BedrockTarget):
        parts.append(f"vLLM {plan.release.vllm}")
    return Text(f"stack {plan.stack}", "bold").append(f": {', '.join(parts)}\n", "default")


def _lost_to(pool: PoolPlan, *, alternatives: bool) -> Iterator[Padding]:
    """What else its unit could be. Of pools that were placed together the first tells; of small
    pools without a generating one nobody wants to hear unless asked."""
    if pool.search is None:
        return
    pools = [wanted.pool for wanted in pool.search.unit]
    matters = alternatives or any(one.role == "generate" for one in pools)
    if matters and pools[0].name == pool.name:
        table = search_table(pool.search, alternatives=alternatives)
        if table:
            yield table


def _startups(plan: Plan) -> Iterator[str]:
    for pool in plan.pools:
        if pool.sizing and pool.role == "generate":
            start = pool.sizing.startup
            yield (
                f"{pool.name}: about {start.total:,.0f} s = node {start.node:,.0f} + image "
                f"{start.image:,.0f} + weights {start.weights:,.0f} + warm-up {start.warm_up:,.0f}"
            )


def _print_list(
    console: Console, title: str, lines: tuple[str, ...] | Iterator[str], style: str = "default"
) -> None:
    listed = list(lines)
    if listed:
        console.print(f"\n[bold]{title}[/bold]")
        for line in listed:
            console.print(Padding(Text(line, style), (0, 0, 0, 2)))
