"""Reports of several runs, stacks or GPU offerings in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_FIGURES = (
    ("median_ttft_ms", "TTFT ms"),
    ("median_tpot_ms", "TPOT ms"),
    ("median_itl_ms", "ITL ms"),
)
_RATES = (
    ("output_throughput", "out tok/s"),
    ("total_token_throughput", "all tok/s"),
    ("request_throughput", "req/s"),
)
_UNBOUNDED = Console(width=1000)
# A label longer than this goes on in the next line.
_LABEL = 48


def print_comparison(reports: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The table at its own width: a terminal wraps lines, but no figure is ever cut."""
    table = comparison(reports)
    console.width = max(
        console.width, Measurement.get(_UNBOUNDED, _UNBOUNDED.options, table).maximum
    )
    console.print(table)


def comparison(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a report: the seven metrics, the price, and tokens a second for a dollar an hour."""
    table = Table(box=None, pad_edge=False, title="load tests compared", title_justify="left")
    table.add_column("run", overflow="fold", max_width=_LABEL)
    titles = [title for _, title in (*_FIGURES, *_RATES)]
    for title in (*titles, "peak", "$/h", "$/M out", "tok/s per $/h", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for name, report in reports.items():
        table.add_row(name, *_row(report))
    return table


def _row(report: Mapping[str, Any]) -> list[str]:
    rates = report.get("steady") or report
    cost = report.get("cost") or {}
    cells = [f"{report[key]:.4g}" for key, _ in _FIGURES]
    cells += [f"{rates[key]:.4g}" for key, _ in _RATES]
    cells.append(str(report["max_concurrent_requests"]))
    for key in (
        "usd_per_hour",
        "usd_per_million_output_tokens",
        "output_tokens_per_second_per_dollar_hour",
    ):
        cells.append(f"{cost[key]:.4g}" if key in cost else "-")
    return [*cells, _word(report)]


def _word(report: Mapping[str, Any]) -> str:
    if not report.get("valid", True):
        return "[yellow]invalid[/yellow]"
    met = (report.get("verdict") or {}).get("met", True)
    return "[green]met[/green]" if met else "[red]missed[/red]"


def labels(paths: Sequence[Path], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stack's name where that is enough, else the folder's."""
    named = [
        str(report.get("label") or path.name) for path, report in zip(paths, reports, strict=True)
    ]
    if len(set(named)) == len(named):
        return named
    return [str(path.parent if path.suffix == ".json" else path) for path in paths]
