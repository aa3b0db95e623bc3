"""Draws a running stack as SVG: what each process is, holds and did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 960, 560
_BOX = 76
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24302f }
.name { font-weight: 600; font-size: 15px }
.small { font-size: 12px; fill: #5b6b69 }
rect { fill: #f4f8f7; stroke: #8fb3ad; rx: 8 }
rect.ground { fill: #ffffff; stroke: none; rx: 0 }
rect.door { fill: #dff0ec; stroke: #00897b }
line { stroke: #7d928f; stroke-width: 1.5; marker-end: url(#tip) }
line.aside { stroke-dasharray: 4 4 }
path { fill: #7d928f }
@media (prefers-color-scheme: dark) {
  text { fill: #e4ecea } .small { fill: #9fb2af }
  rect { fill: #22302e; stroke: #4f736d } rect.ground { fill: #171d1c } rect.door { fill: #12463f }
  line { stroke: #8ba19d } path { fill: #8ba19d }
}"""


@dataclass(frozen=True)
class Running:
    """What was asked of a stack while it ran: `status --json`, sums of metrics by worker, report.json."""

    processes: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, float]]
    report: Mapping[str, Any]
    simulated: bool


def draw(running: Running) -> str:
    by_role: dict[str, list[Mapping[str, Any]]] = {}
    for process in running.processes:
        by_role.setdefault(process["role"], []).append(process)
    engines = by_role["engine"]
    step = (_WIDTH - 40) / len(engines)
    parts = [
        _box(390, 16, 180, "clients", [_load(running.report)]),
        _arrow(480, 92, 480, 124),
        _process(
            330, 126, 300, by_role["gateway"][0], "gateway", "Envoy: keys, models, limits", True
        ),
        _arrow(632, 164, 708, 164, aside=True),
        _process(710, 126, 230, by_role["picker"][0], "picker", "which worker has read this?"),
    ]
    for place, engine in enumerate(engines):
        left = 20 + place * step
        parts += [
            _arrow(480, 204, left + (step - 14) / 2, 252),
            _process(left, 254, step - 14, engine, engine["name"], _did(running, engine)),
        ]
    below = [
        ("cache", 20, "LMCache: host memory"),
        ("redis", 333, "Redis: for all workers"),
        ("prometheus", 646, "Prometheus: scrapes them all"),
    ]
    for role, left, what in below:
        for process in by_role.get(role, [])[:1]:
            parts.append(_process(left, 400, 294, process, role, what))
    parts.append(_arrow(20 + (step - 14) / 2, 332, 110, 398))
    parts.append(_arrow(20 + step * 1.5 - 7, 332, 220, 398))
    if "redis" in by_role:
        parts.append(_arrow(314, 438, 331, 438))
    parts.append(_text(20, 516, _caption(running), "small"))
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">\n'
        f"<title>A running stack</title>\n<style>{_STYLE}\n</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>\n'
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>\n{inside}\n</svg>\n'
    )


def _load(report: Mapping[str, Any]) -> str:
    return f"{report['max_concurrent_requests']} requests in flight"


def _did(running: Running, engine: Mapping[str, Any]) -> str:
    """What a worker's own counters say: answers, and the share of prompt tokens found in a cache."""
    seen = running.metrics[engine["name"]]
    if engine["pool"] != running.report["model_id"]:
        return f"{engine['pool']}, not asked in this test"
    asked = seen.get("vllm:prefix_cache_queries_total", 0.0)
    hits = seen.get("vllm:prefix_cache_hits_total", 0.0)
    hits += seen.get("vllm:external_prefix_cache_hits_total", 0.0)
    answers = seen.get("vllm:request_success_total", 0.0)
    return (
        f"{answers:.0f} answers, {hits / asked:.0%} cached" if asked else f"{answers:.0f} answers"
    )


def _caption(running: Running) -> str:
    report = running.report
    date = report["date"]
    engines = "simulated engines" if running.simulated else "real vLLM on CPU"
    return (
        f"Drawn from a run with {engines}, {date[:4]}-{date[4:6]}-{date[6:8]}, two CPU cores: "
        f"{report['completed']} answers measured in {report['duration']:.0f} s, {report['failed']} failed; "
        f"median TTFT {report['median_ttft_ms']:.0f} ms, TPOT {report['median_tpot_ms']:.0f} ms."
    )


def _process(
    x: float,
    y: float,
    width: float,
    process: Mapping[str, Any],
    name: str,
    what: str,
    door: bool = False,
) -> str:
    where = f"port {process['port']}, {process['memory_gib']:.2f} GiB, {process['health']}"
    return _box(x, y, width, name, [what, where], door)


def _box(
    x: float, y: float, width: float, name: str, lines: Sequence[str], door: bool = False
) -> str:
    kind = ' class="door"' if door else ""
    parts = [f'<rect{kind} x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_BOX}"/>']
    parts.append(_text(x + 12, y + 24, name, "name"))
    parts += [_text(x + 12, y + 45 + 18 * i, line, "small") for i, line in enumerate(lines)]
    return "\n".join(parts)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


def _arrow(x: float, y: float, to_x: float, to_y: float, *, aside: bool = False) -> str:
    kind = ' class="aside"' if aside else ""
    return f'<line{kind} x1="{x:.0f}" y1="{y:.0f}" x2="{to_x:.0f}" y2="{to_y:.0f}"/>'
