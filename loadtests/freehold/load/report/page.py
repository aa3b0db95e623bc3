"""report.html: one file with everything in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from ..analysis import Analysis, load_over_time
from ..metrics import output_times
from ..record import RequestRecord
from ..server_side import Series, hit_shares
from .plots import Plot, distribution

_STYLE = files("freehold.load.report").joinpath("page.css").read_text(encoding="utf-8")

_SEVEN = (
    ("median_ttft_ms", "median TTFT", "ms"),
    ("median_tpot_ms", "median TPOT", "ms"),
    ("median_itl_ms", "median ITL", "ms"),
    ("output_throughput", "output tokens", "tok/s"),
    ("total_token_throughput", "all tokens", "tok/s"),
    ("request_throughput", "requests", "req/s"),
    ("max_concurrent_requests", "most in flight", ""),
)
_NAMES = {key: f"{name}, {unit}" if unit else name for key, name, unit in _SEVEN}
_NAMES |= {
    "median_e2el_ms": "median end to end, ms",
    "failed requests": "failed, share of requests",
}


def page(
    analysis: Analysis, requests: Sequence[RequestRecord], series: Sequence[Series] = ()
) -> str:
    """The whole document."""
    report = analysis.report
    title = f"Load test of {report['label'] or report['base_url']}: {report['model_id']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="sub">{escape(_subtitle(report))}</p>',
        _verdict(report),
        _tiles(report),
        _heading("Plan against measurement"),
        _checks(report),
        _heading("Latency"),
        _figures([*_distributions(analysis.counted), *_over_time(requests)]),
        _spreads(report),
        _heading("Throughput"),
        _saturation(report),
        _figures(_throughput(requests, report)),
        _heading("Stages"),
        _stages(report),
        _heading("Inside the engines"),
        _server(report),
        _figures(_inside(series)),
        _heading("Money and quota"),
        _money(report),
        _heading("How it was measured"),
        _method(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _heading(text: str) -> str:
    """A link can end in #latency and the like."""
    return f'<h2 id="{text.lower().replace(" ", "-")}">{text}</h2>'


def _subtitle(report: Mapping[str, Any]) -> str:
    traffic = report["traffic"] or {}
    load = (
        f"{report['request_rate']:g} requests a second"
        if report["request_rate"] != "inf"
        else f"{report['max_concurrency']:g} in flight"
        if report["max_concurrency"]
        else "several levels"
    )
    return (
        f"{report['date']} · {traffic.get('kind', '')} traffic · {load} · {report['completed']} requests "
        f"completed, {report['failed']} failed, {report['cancelled']} cancelled · "
        f"{report['duration']:.1f} s"
    )


def _verdict(report: Mapping[str, Any]) -> str:
    if not report["valid"]:
        kind, word, lines = "invalid", "INVALID: not a measurement", report["invalid_reasons"]
    else:
        verdict = report["verdict"]
        missed = [check for check in verdict["checks"] if not check["met"]]
        kind, word = ("met", "Met") if verdict["met"] else ("missed", "Missed")
        why = [f"reason: {verdict['reason']}"] if verdict.get("reason") else []
        lines = [*(say(check) for check in missed), *why, *verdict["notes"]]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="verdict {kind}">{word}<ul>{items}</ul></div>'


def say(check: Mapping[str, Any]) -> str:
    """One check in words."""
    limit = f"limit {check['limit']:.4g}"
    if check["expected"] is not None:
        limit = f"expected {check['expected']:.4g}, {limit}"
    note = f": {check['note']}" if check["note"] else ""
    name = _NAMES.get(check["metric"], check["metric"])
    return f"{name} ({check['source']}): {check['measured']:.4g}, {limit}{note}"


def _tiles(report: Mapping[str, Any]) -> str:
    tiles = "".join(
        f'<div class="tile"><span>{name}</span><b>{report[key]:,.4g} <small>{unit}</small></b></div>'
        for key, name, unit in _SEVEN
    )
    return f'<div class="tiles">{tiles}</div>'


def _checks(report: Mapping[str, Any]) -> str:
    rows = []
    for check in report["verdict"]["checks"]:
        difference = check["difference"]
        rows.append(
            [
                _NAMES.get(check["metric"], check["metric"]),
                check["source"],
                _number(check["expected"]),
                _number(check["limit"]),
                _number(check["measured"]),
                "" if difference is None else f"{difference:+.1%}",
                "met" if check["met"] else "missed",
            ]
        )
    head = ["figure", "promised by", "expected", "limit", "measured", "difference", ""]
    return _table(head, rows)


def _distributions(counted: Sequence[RequestRecord]) -> list[Plot]:
    good = [record for record in counted if record.ok]
    values = {
        "TTFT": [r.ttft for r in good if r.ttft is not None],
        "TPOT": [tpot for r in good if (tpot := r.tpot) is not None],
        "ITL": [itl for r in good for itl in r.itls],
        "end to end": [r.latency for r in good if r.latency is not None],
    }
    plots = []
    for name, seconds in values.items():
        plot = Plot(f"{name}: share of requests within", "ms", "%", x_log=True)
        if name == "ITL":
            plot.title = "ITL: share of gaps within"
        x, y = distribution(np.maximum(np.asarray(seconds) * 1000, 1e-3))
        plots.append(plot.line(x, y))
    return plots


def _over_time(requests: Sequence[RequestRecord]) -> list[Plot]:
    good = [r for r in requests if r.ok and r.ttft is not None]
    origin = min((r.started for r in requests), default=0.0)
    at = [r.started - origin for r in good]
    ttft = Plot("TTFT over time", "s after the start", "ms")
    ttft.dots(at, [(r.ttft or 0.0) * 1000 for r in good])
    tpot = Plot("TPOT over time", "s after the start", "ms")
    tpot.dots(at, [(r.tpot or 0.0) * 1000 for r in good])
    return [_staged(ttft, requests), _staged(tpot, requests)]


def _staged(plot: Plot, requests: Sequence[RequestRecord]) -> Plot:
    """Marks where each stage begins: warm-up, the levels of a step, the spike."""
    origin = min((r.started for r in requests), default=0.0)
    begins: dict[str, float] = {}
    for r in requests:
        begins.setdefault(r.stage or "", r.started - origin)
    for name, at in begins.items() if len(begins) > 1 else ():
        plot.mark(at, name)
    return plot


def _throughput(requests: Sequence[RequestRecord], report: Mapping[str, Any]) -> list[Plot]:
    origin = min((r.started for r in requests), default=0.0)
    good = [r for r in requests if r.ok and r.ttft is not None]
    times = np.concatenate([output_times(r) for r in good]) if good else np.empty(0)
    weights = [
        np.full(len(r.itls) + 1, (r.output_tokens or len(r.itls) + 1) / (len(r.itls) + 1))
        for r in good
    ]
    over = Plot("Output tokens a second over time", "s after the start", "tok/s")
    if len(times):
        seconds = int(times.max() - origin) + 1
        rate, edges = np.histogram(
            times - origin, bins=seconds, range=(0, seconds), weights=np.concatenate(weights)
        )
        over.line(edges[:-1], rate)
    at, level = load_over_time(requests)
    flight = Plot("Requests in flight over time", "s after the start", "requests")
    flight.line(at, level, step=True)
    title = "Throughput against concurrency"
    if len(report["stages"]) == 1:
        title += " (one level; --shape step measures several)"
    against = Plot(title, "requests in flight (mean)", "output tok/s", x_from_zero=True)
    points = sorted(
        (stage["mean_concurrency"], stage["steady"]["output_throughput"])
        for stage in report["stages"]
    )
    against.line([x for x, _ in points], [y for _, y in points])
    against.dots([x for x, _ in points], [y for _, y in points])
    if report["knee"]:
        against.mark(report["knee"]["concurrency"], "knee")
    return [_staged(over, requests), _staged(flight, requests), against]


def _saturation(report: Mapping[str, Any]) -> str:
    said = saturation_words(report)
    return f"<p>{escape(said)}</p>" if said else ""


def saturation_words(report: Mapping[str, Any]) -> str | None:
    """How far a step test came; None of any other."""
    found = report["saturation"]
    if found is None:
        return None
    if found["why"] is None:
        return f"Not saturated up to {found['level']}."
    return f"Saturated at {found['level']}: {found['why']}."


def _spreads(report: Mapping[str, Any]) -> str:
    names = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "end to end"}
    names |= {"e2el_from_intended": "end to end, from the intended start"}
    names |= {"dispatch_delay": "dispatch delay"}
    rows = [
        [name, *(_number(report[f"{which}_{key}_ms"]) for which in _SPREAD)]
        for key, name in names.items()
        if f"mean_{key}_ms" in report
    ]
    return _table(["ms", "mean", "median", "std", "p90", "p95", "p99"], rows)


_SPREAD = ("mean", "median", "std", "p90", "p95", "p99")


def _stages(report: Mapping[str, Any]) -> str:
    rows = [
        [
            stage["name"],
            _number(stage["concurrency"] or stage["rate"]),
            _number(stage["mean_concurrency"]),
            str(stage["completed"]),
            str(stage["failed"]),
            _number(stage["median_ttft_ms"]),
            _number(stage["p99_ttft_ms"]),
            _number(stage["median_tpot_ms"]),
            _number(stage["median_itl_ms"]),
            _number(stage["steady"]["output_throughput"]),
            _number(stage["steady"]["total_token_throughput"]),
            _number(stage["steady"]["request_throughput"]),
            str(stage["max_concurrent_requests"]),
        ]
        for stage in report["stages"]
    ]
    head = ["stage", "asked", "in flight", "done", "failed", "TTFT ms", "p99", "TPOT ms", "ITL ms"]
    head += ["out tok/s", "all tok/s", "req/s", "peak"]
    return _table(head, rows)


def _server(report: Mapping[str, Any]) -> str:
    server = report["server"]
    if not server["workers"]:
        return '<p class="none">the engines\' metrics were not read in this run</p>'
    rows = [
        [
            worker["name"],
            _share(worker["prefix_hit_rate"]),
            _share(worker["external_hit_rate"]),
            _number(worker["mean_queue_ms"]),
            _number(worker["mean_ttft_ms"]),
            _share(worker["peak_kv_cache_usage"]),
            _number(worker["peak_running"]),
            _number(worker["peak_waiting"]),
            _number(worker["preemptions"]),
        ]
        for worker in server["workers"]
    ]
    head = ["worker", "prefix hits", "external hits", "queue ms (mean)", "TTFT ms (mean)"]
    head += ["KV cache peak", "running peak", "waiting peak", "preemptions"]
    client = f"<p>The client saw a mean TTFT of {report['mean_ttft_ms']:.1f} ms"
    if server["mean_ttft_ms"]:
        between = report["mean_ttft_ms"] - server["mean_ttft_ms"]
        client += f", the engines {server['mean_ttft_ms']:.1f} ms: {between:.1f} ms are network and gateway"
    return _table(head, rows) + client + ".</p>"


def _inside(series: Sequence[Series]) -> list[Plot]:
    read = [each for each in series if each.at]
    if not read:
        return []
    origin = min(each.at[0] for each in read)
    plots = []
    for key, title, unit, factor in (
        ("kv_cache_usage", "KV cache in use", "%", 100.0),
        ("running", "Requests running", "requests", 1.0),
        ("waiting", "Requests waiting in the engine", "requests", 1.0),
    ):
        plot = Plot(title, "s after the start", unit)
        for each in read:
            values = [sample.get(key, 0.0) * factor for sample in each.values]
            plot.line([at - origin for at in each.at], values, each.name)
        plots.append(plot)
    hits = Plot("Prompt tokens found in the prefix cache", "s after the start", "%")
    for each in read:
        at, shares = hit_shares(each)
        hits.line([seconds - origin for seconds in at], [100 * s for s in shares], each.name)
    return [*plots, hits]


def _money(report: Mapping[str, Any]) -> str:
    sustained, cost = report["sustained"], report["cost"]
    rows = [
        ["sustained requests a minute", _number(sustained["requests_per_minute"])],
        ["sustained tokens a minute (prompt and answer)", _number(sustained["tokens_per_minute"])],
    ]
    if cost:
        rows += [
            ["US dollars an hour", _number(cost["usd_per_hour"])],
            ["US dollars a million output tokens", _number(cost["usd_per_million_output_tokens"])],
            ["US dollars a million tokens", _number(cost["usd_per_million_tokens"])],
            [
                "output tokens a second for a dollar an hour",
                _number(cost["output_tokens_per_second_per_dollar_hour"]),
            ],
        ]
    else:
        rows.append(["US dollars", "the plan has no price for this stack"])
    return _table(["at this load", ""], rows)


def _method(report: Mapping[str, Any]) -> str:
    generator = json.dumps(report["generator"], indent=1, default=float)
    traffic = json.dumps(report["traffic"], indent=1)
    return (
        "<p>Definitions are those of <code>vllm bench serve</code> (0.33): the opening chunk of the role is "
        "no output, reasoning and tool calls are, latency ends with the last output event, tokens are the "
        f"server's own counts. vLLM's own tool counts {report['vllm_max_concurrent_requests']} requests in "
        "flight at most (in whole seconds) where the true peak was "
        f"{report['max_concurrent_requests']}.</p><p>The nearest command:</p>"
        f"<pre>{escape(report['vllm_command'])}</pre><p>The generator about itself:</p>"
        f"<pre>{escape(generator)}</pre><p>The traffic:</p><pre>{escape(traffic)}</pre>"
    )


def _figures(plots: Sequence[Plot]) -> str:
    return f'<div class="plots">{"".join(plot.svg() for plot in plots)}</div>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    kind = {"met": ' class="ok"', "missed": ' class="bad"'}.get(text, "")
    return f"<td{kind}>{escape(text)}</td>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
