"""What of a plan is about choosing: cost by item, what else was possible, the PCIe trap."""

from __future__ import annotations

from collections.abc import Iterator

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from freehold.planning.cost import Cost
from freehold.planning.options import Option
from freehold.planning.placement import Search
from freehold.planning.plan import Plan, PoolPlan
from freehold.planning.trap import Way

from .plain_table import plain_table

_LOSERS = 3


def cost_table(cost: Cost) -> Padding:
    table = plain_table("cost, US dollars", "an hour", "a month", numbers=2)
    for item in cost.items:
        table.add_row(f"  {item.name}", f"{item.usd_per_hour:,.3f}", f"{item.usd_per_month:,.0f}")
    sums = (
        (
            "GPUs only",
            cost.gpu_usd_per_hour,
            cost.gpu_usd_per_month,
            cost.gpu_usd_per_million_output_tokens,
        ),
        ("all in", cost.usd_per_hour, cost.usd_per_month, cost.usd_per_million_output_tokens),
    )
    for name, hour, month, million in sums if cost.gpu_usd_per_hour else sums[1:]:
        tokens = f", {million:,.2f} a million output tokens" if million else ""
        table.add_row(Text(name + tokens, "bold"), f"{hour:,.3f}", f"{month:,.0f}")
    for change in cost.changes:
        table.add_row(
            Text(f"  with {change.name}: {change.note}", "dim"), "", f"{change.usd_per_month:,.0f}"
        )
    return Padding(table, (1, 0, 0, 0))


def hosted_lines(plan: Plan) -> Iterator[str]:
    for one in plan.break_even:
        share = one.tokens_per_month / one.planned_tokens_per_month
        verdict = "dearer than this plan" if share < 1 else "cheaper than this plan"
        yield (
            f"{one.provider} ({one.date}): the planned load would cost "
            f"${one.usd_per_month_at_planned_load:,.0f} a month there, {verdict}; break-even at "
            f"{one.tokens_per_month / 1e6:,.0f} million tokens a month, {share:.0%} of the planned"
        )


def search_table(search: Search, *, alternatives: bool) -> Padding | None:
    """Why the others lost: the nearest few, or all; None where there were no others."""
    assert search.chosen
    names = ", ".join(wanted.pool.name for wanted in search.unit)
    lost = [option for option in search.looked_at if option is not search.chosen]
    options = [*lost, *search.too_dear] if alternatives else _nearest(lost, search.too_dear)
    table = plain_table(f"instead, for {names}", "split", "weights", "an hour", "why not")
    for option in options:
        table.add_row(*_option(option, search.chosen))
    if alternatives:
        shown = {option.offer.instance.name for option in options}
        for instance, reasons in search.misfits.items():
            if instance not in shown:
                table.add_row(instance, "", "", "", reasons[-1])
    return Padding(table, (1, 0, 0, 0)) if table.row_count else None


def _nearest(lost: list[Option], too_dear: list[Option]) -> list[Option]:
    """One option a machine: the dearest that were cheaper and failed, then the next in price."""
    failed = [option for option in lost if option.problem]
    rest = sorted([*(o for o in lost if not o.problem), *too_dear], key=lambda o: o.rank)
    shown: dict[str, Option] = {}
    for option in [*failed[-1:-_LOSERS:-1], *rest]:
        shown.setdefault(option.offer.instance.name, option)
    return list(shown.values())[:_LOSERS]


def _option(option: Option, chosen: Option) -> tuple[str, str, str, str, str]:
    weights = "/".join(placed.fit.checkpoint.quantization for placed in option.pools)
    replicas = f", {option.replicas} replicas" if option.replicas > 1 else ""
    return (
        f"{option.nodes} x {option.offer.instance.name}",
        f"{option.split}{replicas}",
        weights,
        f"${option.usd_per_hour:,.2f}",
        option.problem or _difference(option, chosen),
    )


def _difference(option: Option, chosen: Option) -> str:
    more = option.usd_per_hour - chosen.usd_per_hour
    if more > 0:
        return f"${more:,.2f} an hour more"
    return "the same price, farther from the published weights or slower"


def ways_table(pool: PoolPlan) -> Padding:
    table = plain_table(
        "on", "machine", "split", "weights", "TTFT", "TPOT", "tokens/s", "tokens/s per $/h"
    )
    for way in pool.ways:
        table.add_row(way.name, *_way(way))
    title = Text(
        f"{pool.name}: the PCIe trap. Tensor parallel over more than two GPUs without NVLink loses; "
        "the same load"
    )
    grid = Table.grid()
    grid.add_row(title)
    grid.add_row(table)
    return Padding(grid, (1, 0, 0, 0))


def _way(way: Way) -> tuple[str, ...]:
    option = way.option
    if option is None:
        return (way.machine, "", "", "", "", "", f"no: {way.why_not}")
    forecast = option.pools[0].forecast
    assert forecast, "the pools that this is about have a demand"
    replicas = f"{option.replicas} x " if option.replicas > 1 else ""
    nodes = f"{option.nodes} x " if option.nodes > 1 else ""
    return (
        f"{nodes}{way.machine}",
        f"{replicas}{option.split}",
        option.pools[0].fit.checkpoint.quantization,
        f"{forecast.median_ttft_ms:,.0f} ms",
        f"{forecast.median_tpot_ms:,.0f} ms",
        f"{forecast.output_throughput:,.0f}",
        f"{option.tokens_per_dollar or 0:,.1f}",
    )
