"""What was measured: a table for each workload, and one page with plots that loads nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..markdown import table as markdown_table
from .measure import Result

# Best known without any proxy, measured 2026-11-23 on other hardware: hit share in %, TTFT p50 and p95
# in ms. A gateway may lose a point, and 3 ms or a tenth.
AIMS: dict[str, tuple[float | None, float | None, float]] = {
    "W1": (85, 18, 65),
    "W1L": (87, 105, 190),
    "W2": (89, 6, 680),
    "W2s": (89, 5, 800),
    "W3": (97, 5, 17),
    "W4": (None, None, 680),
}
# Requests of the busiest worker over the mean.
MOST_BUSY = 1.25

Columns = tuple[tuple[str, Callable[[Result], str]], ...]
COLUMNS: Columns = (
    ("hits %", lambda r: f"{100 * r.hit_share:.1f}"),
    ("TTFT p50", lambda r: f"{r.ttft_p50:,.0f}"),
    ("p95", lambda r: f"{r.ttft_p95:,.0f}"),
    ("p99", lambda r: f"{r.ttft_p99:,.0f}"),
    ("busiest", lambda r: f"{r.busiest:.2f}"),
    ("req/s", lambda r: f"{r.requests_per_second:.0f}"),
    ("tokens/s", lambda r: f"{r.output_tokens_per_second:,.0f}"),
    ("CPU ms/req", lambda r: _or_dash(r.cpu_ms_per_request, ".2f")),
    ("MiB", lambda r: _or_dash(r.memory_mib, ".0f")),
    ("renders/req", lambda r: f"{r.renders_per_request:.1f}"),
    ("failed", lambda r: str(r.failed)),
)


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def table(
    heading: str, results: Sequence[Result], note: str = "", names: Sequence[str] = ()
) -> str:
    """`names` of the rows, where they are not the routers'."""
    names = names or [_name(result) for result in results]
    rows = [["", *(name for name, _ in COLUMNS)]]
    rows += [
        [name, *(show(result) for _, show in COLUMNS)]
        for name, result in zip(names, results, strict=True)
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join(["", heading, *([note] if note else []), *lines])


def markdown(heading: str, results: Sequence[Result]) -> str:
    """The table for a page of the documentation."""
    head = ["", *(name for name, _ in COLUMNS)]
    rows = ([_name(result), *(show(result) for _, show in COLUMNS)] for result in results)
    return "\n".join([f"**{heading}**", "", *markdown_table(head, rows), "", ""])


def _name(result: Result) -> str:
    if result.tenants == 1:
        return result.router
    return f"{result.router}, {result.tenants} tenants{' sealed' if result.sealed else ''}"


def aim_of(results: Sequence[Result], workload: str) -> str:
    """The figures to reach, and which the gateway's own policy missed. They hold for four workers."""
    ours = next((r for r in results if r.router == "freehold prefix" and r.tenants == 1), None)
    if ours is None or workload not in AIMS or ours.workers != 4:
        return ""
    missed = [*_missed(ours, *AIMS[workload])]
    hits, p50, p95 = ("-" if value is None else f"{value:g}" for value in AIMS[workload])
    said = "met" if not missed else f"MISSED: {', '.join(missed)}"
    return f"aim: hits {hits}, TTFT p50 {p50}, p95 {p95}: {said}"


def cost_of_sealing(results: Sequence[Result]) -> str:
    """Points of hit share, where tenants were run both ways."""
    by = {result.sealed: result for result in results if result.tenants > 1}
    if len(by) < 2:
        return ""
    return f"sealing costs {100 * (by[False].hit_share - by[True].hit_share):.1f} points of hits"


def _missed(
    ours: Result, hits: float | None, p50: float | None, p95: float | None
) -> Iterator[str]:
    if hits is not None and 100 * ours.hit_share < hits - 1:
        yield f"hits {100 * ours.hit_share:.1f}"
    for name, aim, found in (("p50", p50, ours.ttft_p50), ("p95", p95, ours.ttft_p95)):
        if aim is not None and found > aim + max(3, aim / 10):
            yield f"{name} {found:.0f}"
    if ours.busiest > MOST_BUSY:
        yield f"busiest {ours.busiest:.2f}"


def write(
    folder: Path, told: dict[str, Any], tables: Sequence[tuple[str, Sequence[Result]]]
) -> None:
    """`routing.json` with every run, `routing.html` with plots, `routing.md` with tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "routing.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    tables_md = "".join(markdown(heading, results) for heading, results in tables)
    (folder / "routing.md").write_text(tables_md, encoding="utf-8")
    body = "".join(
        f"<h2>{escape(heading)}</h2><div class=row>"
        + _bars("prompt tokens found in caches, %", results, lambda r: 100 * r.hit_share)
        + _bars("TTFT p50, ms", results, lambda r: r.ttft_p50)
        + _bars("TTFT p95, ms", results, lambda r: r.ttft_p95)
        + _bars("busiest worker to mean", results, lambda r: r.busiest)
        + f"</div><pre>{escape(table(heading, results))}</pre>"
        for heading, results in tables
    )
    page = f"<!doctype html><meta charset=utf-8><title>Routing</title><style>{_STYLE}</style>{body}"
    (folder / "routing.html").write_text(page, encoding="utf-8")


_STYLE = (
    "body{font:14px sans-serif;margin:2em}.row{display:flex;flex-wrap:wrap;gap:1.5em}"
    "pre{overflow:auto}text{font:11px sans-serif}figure{margin:0}"
)
_BAR, _NAMES, _WIDTH = 16, 190, 200


def _bars(title: str, results: Sequence[Result], value: Callable[[Result], float]) -> str:
    most = max((value(result) for result in results), default=1.0) or 1.0
    rows = "".join(
        f'<text x="{_NAMES - 6}" y="{place * _BAR + 12}" text-anchor="end">{escape(_name(r))}</text>'
        f'<rect x="{_NAMES}" y="{place * _BAR + 2}" height="{_BAR - 4}" '
        f'width="{_WIDTH * value(r) / most:.1f}" fill="{_colour(r)}"/>'
        f'<text x="{_NAMES + 4 + _WIDTH * value(r) / most:.1f}" y="{place * _BAR + 12}">'
        f"{value(r):,.2f}</text>"
        for place, r in enumerate(results)
    )
    size = f'width="{_NAMES + _WIDTH + 70}" height="{_BAR * len(results)}"'
    return f"<figure><figcaption>{escape(title)}</figcaption><svg {size}>{rows}</svg></figure>"


def _colour(result: Result) -> str:
    family = result.router.split()[0]
    return {"freehold": "#059669", "no": "#9ca3af"}.get(family, "#3b82f6")


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(result) for result in results]
