"""Every panel's query with what a running Prometheus answers: a page for who has no Grafana at hand.

python -m freehold.monitoring.dashboards.table http://127.0.0.1:9091 > panels.md
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence

import httpx

from ..metrics import Metric, series
from ..promql import parse
from ..rules import all_rules
from .pages import dashboards
from .spec import Dashboard, Panel

_MOST_SHOWN = 3
_NEEDS = {
    "dcgm": "needs a GPU",
    "kube-state-metrics": "needs a cluster",
    "kubelet": "needs a cluster",
    "node-exporter": "needs a cluster",
    "lmcache": "needs LMCache itself",
}


def markdown(prometheus: str, rate_interval: str = "5m") -> str:
    """A section for each dashboard; `rate_interval` stands where Grafana would put its own."""
    lines = []
    with httpx.Client(base_url=prometheus, timeout=30, trust_env=False) as client:
        for page in dashboards():
            lines += [f"## {page.title}", "", page.meaning, ""]
            lines += ["| panel | query | value |", "| --- | --- | --- |"]
            lines += [*_rows(page, client, rate_interval), ""]
    return "\n".join(lines)


def _rows(page: Dashboard, client: httpx.Client, rate_interval: str) -> Iterator[str]:
    for panel in page.panels:
        title = panel.title
        for query in panel.queries:
            value = _value(panel, query.expression, _ask(client, query.expression, rate_interval))
            yield f"| {title} | `{query.expression.replace('|', chr(92) + '|')}` | {value} |"
            title = ""


def _ask(client: httpx.Client, expression: str, rate_interval: str) -> list[float]:
    """Of each series that it matches; every pool and node is chosen."""
    for name, stands_for in (("$__rate_interval", rate_interval), ("$pool", ".*"), ("$node", ".*")):
        expression = expression.replace(name, stands_for)
    answer = client.get("/api/v1/query", params={"query": expression})
    answer.raise_for_status()
    return [float(one["value"][1]) for one in answer.json()["data"]["result"]]


def _value(panel: Panel, expression: str, values: Sequence[float]) -> str:
    if not values:
        return f"none: {why_empty(expression) or '?'}"
    if panel.kind == "table":
        return f"{len(values)} rows"
    shown = ", ".join(_text(value, panel.unit) for value in values[:_MOST_SHOWN])
    return shown + (", …" if len(values) > _MOST_SHOWN else "")


def why_empty(expression: str) -> str | None:
    """What must be there before it has a value; None when nothing excuses that it has none."""
    read = _behind(expression)
    metrics = [found for name in sorted(read) if (found := series().get(name))]
    for metric in metrics:
        if reason := _reason(metric):
            return reason
    if any(name.startswith("plan:") for name in read):
        return "the plan says nothing of it"
    return None


def _reason(metric: Metric) -> str | None:
    if metric.name == "ALERTS":
        return "nothing fires"
    if metric.source == "vllm" and metric.when:
        return f"only where {metric.when}"
    return _NEEDS.get(metric.source)


def _behind(expression: str) -> set[str]:
    """Names of all series that it reads, also through recording rules."""
    names = {
        selector.name for selector in parse(expression.replace("$__rate_interval", "5m")).selectors
    }
    for rule in all_rules():
        if rule.get("record") in names:
            names |= _behind(rule["expr"])
    return names


def _text(value: float, unit: str) -> str:
    if math.isnan(value):
        return "no traffic"
    match unit:
        case "s":
            return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.2f} s"
        case "percentunit":
            return f"{value:.1%}"
        case "currencyUSD":
            return f"${value:,.2f}"
        case "reqps":
            return f"{value:.2f}/s"
        case "suffix: tokens/s":
            return f"{value:,.0f} tokens/s"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    print(markdown(sys.argv[1]), end="")
