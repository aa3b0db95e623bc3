"""The three files: the keys that others read, the page that loads nothing, and damage told."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from freehold.config import FreeholdError
from freehold.load.analysis import Analysis, Context, analyse, assign_stages, knee
from freehold.load.calibrate import measured_loads
from freehold.load.compare import comparison, labels
from freehold.load.record import Recording, RequestRecord, StageStart
from freehold.load.report import read_report, write_report
from freehold.load.report.plots import Plot, log_ticks, ticks
from freehold.load.server_side import Series, growth, hit_shares, keep, kept, parse, summary
from freehold.load.stages import Stage
from freehold.load.test import LoadTest
from freehold.load.verdict import Promise
from freehold.planning.forecast import Forecast

from .conftest import record

# What `vllm bench serve --save-result --save-detailed` 0.32 writes for a chat endpoint, less the texts,
# which are not kept, and what belongs to speech (rtfx) and to --goodput.
VLLM_KEYS = {
    *("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts"),
    *("request_rate", "burstiness", "max_concurrency", "duration", "completed", "failed"),
    *("total_input_tokens", "total_output_tokens", "request_throughput", "output_throughput"),
    *("total_token_throughput", "input_lens", "output_lens", "ttfts", "itls", "start_times"),
    *("errors", "max_output_tokens_per_s", "max_concurrent_requests", "latencies"),
    *(
        f"{kind}_{name}_ms"
        for kind in ("mean", "median", "std", "p99")
        for name in ("ttft", "tpot", "itl")
    ),
}


def _levels() -> list[RequestRecord]:
    """Three levels of a closed loop: 1, 4 and 16 in flight, the last one beyond the knee."""
    requests: list[RequestRecord] = []
    for start, users, slower in ((0.0, 1, 1.0), (10.0, 4, 1.1), (20.0, 16, 4.0)):
        length = 0.19 * slower + 1e-3
        for turn in range(int(10 / length)):
            for user in range(users):
                at = start + turn * length + 0.001 * user
                requests.append(record(at, 0.1 * slower, (0.01 * slower,) * 9))
    return sorted(requests, key=lambda r: r.started)


def _series() -> Series:
    values = [
        {"prefix_queries": 0.0, "prefix_hits": 0.0, "kv_cache_usage": 0.1, "running": 1.0},
        {"prefix_queries": 900.0, "prefix_hits": 9.0, "kv_cache_usage": 0.7, "running": 9.0},
    ]
    return Series("chat-0", [0.0, 30.0], values)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    stages = tuple(Stage(name=f"{c}", seconds=10, concurrency=c) for c in (1, 4, 16))
    test = LoadTest(
        base_url="http://127.0.0.1:8080",
        model="chat",
        out=tmp_path,
        corpora=tmp_path,
        stack="local",
        stages=stages,
    )
    return Context(test, Promise(usd_per_hour=2.0), [_series()])


@pytest.fixture
def recording() -> Recording:
    starts = [StageStart(f"{c}", b, True, c) for b, c in ((-0.5, 1), (9.99, 4), (19.99, 16))]
    return Recording(requests=_levels(), stages=starts, processes=1)


@pytest.fixture
def analysis(recording: Recording, context: Context) -> Analysis:
    return analyse(recording, context)


def test_the_report_has_vllm_s_keys_and_ours(analysis: Analysis) -> None:
    assert set(analysis.report) >= VLLM_KEYS
    assert set(analysis.report) >= {"valid", "verdict", "stages", "vllm_max_concurrent_requests"}
    assert analysis.report["max_concurrent_requests"] == 16


def test_each_stage_is_measured_by_itself_and_the_knee_is_found(analysis: Analysis) -> None:
    stages = analysis.report["stages"]
    assert [stage["name"] for stage in stages] == ["1", "4", "16"]
    assert [round(stage["mean_concurrency"]) for stage in stages] == [1, 4, 16]
    assert stages[2]["median_ttft_ms"] == pytest.approx(400)
    assert analysis.report["knee"]["concurrency"] == pytest.approx(4, rel=0.05)
    assert knee(stages[:2]) is None, "two levels say nothing"
    rate = stages[1]["steady"]["output_throughput"]
    twice = {"mean_concurrency": 8.0, "steady": {"output_throughput": 2 * rate}}
    assert knee([*stages[:2], twice]) is None, "all of them paid off"


def _forecast(concurrency: float) -> Forecast:
    rates = (40.0, 400.0, 4.0)
    return Forecast(
        concurrency, 110, 11, 11, *rates, concurrency, "measured: x", (0.8, 1.3), (0.9, 1.1)
    )


def test_of_several_levels_the_plan_s_own_is_held_against_it(
    recording: Recording, context: Context
) -> None:
    def judged(concurrency: float, requests: list[RequestRecord]) -> dict[str, Any]:
        promise = Promise(predicted=_forecast(concurrency))
        again = replace(recording, requests=requests, notes=[])
        return analyse(again, replace(context, promise=promise)).report["verdict"]

    at_four = judged(4, recording.requests)
    measured = {check["metric"]: check["measured"] for check in at_four["checks"]}
    assert measured["median_ttft_ms"] == pytest.approx(110)
    assert measured["max_concurrent_requests"] == 4
    assert at_four["notes"][0] == "held against the plan: stage 4, which has its load"
    elsewhere = judged(100, recording.requests)
    assert elsewhere["notes"] == ["not held against the plan: no stage has its load"]
    assert [check["metric"] for check in elsewhere["checks"]] == ["failed requests"]
    # Saturated below: the level that the plan promises was never sent.
    early = judged(16, [r for r in recording.requests if r.started < 19])
    assert not early["met"]
    assert "ended at 4, before the plan's load" in early["checks"][0]["note"]


def test_money_is_the_hour_s_price_over_what_came_through(analysis: Analysis) -> None:
    cost, rates = analysis.report["cost"], analysis.report["steady"]
    expected = 2.0 / (rates["output_throughput"] * 3600) * 1e6
    assert cost["usd_per_million_output_tokens"] == pytest.approx(expected)


def test_requests_before_a_measured_stage_are_warm_up() -> None:
    starts = [StageStart("warm-up", 0.0, False, 1), StageStart("steady", 10.0, True, 1)]
    merged = Recording(requests=[record(5.0), record(15.0)], stages=starts)
    assign_stages(merged)
    assert [(r.stage, r.warmup) for r in merged.requests] == [("warm-up", True), ("steady", False)]


def test_look_ups_are_counted_apart(recording: Recording, context: Context) -> None:
    recording.requests.append(record(1.0, None, (), name="embed", latency=0.02, output_tokens=None))
    found = analyse(recording, context).report
    assert found["side_calls"]["embed"]["median_e2el_ms"] == pytest.approx(20)
    assert found["completed"] == len(recording.requests) - 1


class _Outside(HTMLParser):
    """Whatever a page would load from somewhere, and tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.loads += [f"{tag} {n}={v}" for n, v in attrs if n in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "line", "polyline", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


_PANELS = (
    *("TTFT: share of requests within", "ITL: share of gaps within", "TPOT over time"),
    *("Throughput against concurrency", "queue ms (mean)", "external hits", "preemptions"),
    *("KV cache in use", "Prompt tokens found in the prefix cache", "a million output tokens"),
    *("sustained requests a minute", "sustained tokens a minute", "Plan against measurement"),
)


def test_the_page_is_whole_and_loads_nothing(
    analysis: Analysis, recording: Recording, tmp_path: Path
) -> None:
    analysis.report["model_id"] = "<script>alert(1)</script>"
    write_report(tmp_path, analysis, recording.requests, [_series()])
    text = (tmp_path / "report.html").read_text()
    page = _Outside()
    page.feed(text)
    assert not page.open and not page.loads
    assert "script" not in page.seen and "@import" not in text and "url(" not in text
    assert page.seen.count("svg") == 13
    for words in (
        *_PANELS,
        "TTFT over time",
        "knee",
        "Stages",
        "vllm bench serve",
        "chat-0",
        "nan",
    ):
        assert (words in text) == (words != "nan"), words
    assert not re.search(r"\binf\b(?! )", re.sub(r"<pre>.*?</pre>", "", text, flags=re.S))


def test_the_csv_has_a_row_a_request_unrounded(
    analysis: Analysis, recording: Recording, tmp_path: Path
) -> None:
    write_report(tmp_path, analysis, recording.requests)
    with (tmp_path / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(recording.requests)
    assert float(rows[-1]["ttft"]) == recording.requests[-1].ttft
    assert read_report(tmp_path)["completed"] == len(rows)
    assert json.loads((tmp_path / "report.json").read_text())["itls"][0] == [0.01] * 9


def test_a_full_disk_says_what_is_kept(
    analysis: Analysis, recording: Recording, tmp_path: Path
) -> None:
    (tmp_path / ".requests.csv.new").symlink_to("/dev/full")
    with pytest.raises(FreeholdError, match=r"No space left.*records of every request are kept"):
        write_report(tmp_path, analysis, recording.requests)
    assert not (tmp_path / "report.json").exists()


def test_an_empty_run_has_a_report_as_well(context: Context, tmp_path: Path) -> None:
    found = analyse(Recording(), replace(context, interrupted="interrupted"))
    write_report(tmp_path, found, [])
    assert found.exit_code == 3
    assert found.report["invalid_reasons"][0] == "interrupted"
    assert "INVALID" in (tmp_path / "report.html").read_text()


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    for text, message in (("{", "is not a report"), ('{"a": 1}', "is not the report.json")):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(FreeholdError, match=message):
            read_report(tmp_path)
    with pytest.raises(FreeholdError, match="cannot read"):
        read_report(tmp_path / "nowhere.json")


def test_reports_side_by_side(analysis: Analysis) -> None:
    one, other = analysis.report, {**analysis.report, "cost": None, "valid": False}
    names = labels([Path("a/report.json"), Path("b/report.json")], [one, other])
    assert names == ["a", "b"]
    table = comparison(dict(zip(names, (one, other), strict=True)))
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["a", "b"] and cells[-1][1] == "[yellow]invalid[/yellow]"
    assert cells[-2][1] == "-"


def test_calibration_takes_measured_levels_of_a_valid_report(analysis: Analysis) -> None:
    loads = measured_loads({**analysis.report, "valid": True})
    assert [round(load.concurrency) for load in loads] == [1, 4, 16]
    assert loads[0].input_tokens == 100 and loads[0].output_tokens == 10
    assert loads[0].prefix_hit_rate == pytest.approx(0.01)
    with pytest.raises(FreeholdError, match=r"cannot calibrate anything.*too busy"):
        measured_loads({**analysis.report, "valid": False, "invalid_reasons": ["too busy"]})


def test_engine_metrics_are_read_summed_and_survive_a_restart() -> None:
    text = (
        "# HELP vllm:prefix_cache_hits_total x\n"
        'vllm:prefix_cache_hits_total{engine="0",model_name="m"} 10.0\n'
        'vllm:prefix_cache_hits_total{engine="1",model_name="m"} 5.0\n'
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\nother_total 3\n'
    )
    assert parse(text) == {"prefix_hits": 15.0, "kv_cache_usage": 0.25}
    series = Series("w", [1, 2, 3, 4], [{"preemptions": n} for n in (7.0, 9.0, 1.0, 2.0)])
    assert growth(series, "preemptions") == 4
    found = summary([_series(), Series("gone", missed=3)])
    assert found["prefix_hit_rate"] == pytest.approx(0.01)
    assert [worker["name"] for worker in found["workers"]] == ["chat-0"]
    assert found["workers"][0]["peak_kv_cache_usage"] == 0.7


def test_what_a_worker_that_only_writes_is_handed_was_found_in_no_cache() -> None:
    grown = {"prefix_queries": 100.0, "external_hits": 100.0, "preemptions": 3.0}
    values = [dict.fromkeys(grown, 0.0), grown]
    writer = Series("chat-decode-0", [0, 2], values, reads=False)
    found = summary([_series(), writer])
    assert found["cache_hit_share"] == summary([_series()])["cache_hit_share"]
    assert found["workers"][1]["cache_hit_share"] is None
    assert found["preemptions"] == 3 + summary([_series()])["preemptions"]


def test_hit_rates_over_time_leave_out_quiet_times_and_restarts() -> None:
    counts = [(0, 0), (100, 40), (100, 40), (300, 240), (10, 5)]
    values = [{"prefix_queries": float(q), "prefix_hits": float(h)} for q, h in counts]
    assert hit_shares(Series("w", [0, 2, 4, 6, 8], values)) == ([2, 6], [0.4, 1.0])


def test_what_the_engines_said_is_kept_for_the_report_made_again(tmp_path: Path) -> None:
    assert kept(tmp_path) == []
    keep(tmp_path, [_series()])
    assert kept(tmp_path) == [_series()]
    (tmp_path / "engines.json").write_text("{")
    assert kept(tmp_path) == []


def test_a_log_axis_within_one_decade_has_marks_too() -> None:
    assert log_ticks(310, 490) == [350, 400, 450]
    assert log_ticks(8, 300) == [10, 20, 50, 100, 200]
    svg = Plot("a", "ms", "%", x_log=True).line([310.0, 490.0], [0.0, 100.0]).svg()
    assert ">350</text>" in svg and ">450</text>" in svg
    assert ">20,000</text>" in Plot("a", "b", "c").line([0.0, 1.0], [0.0, 20_000.0]).svg()


def test_a_plot_of_zeros_has_an_axis_that_can_be_read() -> None:
    svg = Plot("a", "b", "c").line([0.0, 1.0], [0.0, 0.0]).svg()
    assert ">0.5</text>" in svg and not re.search(r"\de-\d", svg)


def test_plots_have_round_marks_and_say_when_there_is_nothing() -> None:
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0, 0.9) == [0, 0.2, 0.4, 0.6, 0.8]
    assert log_ticks(8, 300) == [10, 20, 50, 100, 200]
    assert "nothing was" in Plot("a", "b", "c").svg()
    assert "<svg" in Plot("a", "b", "c").line([1.0], [2.0]).svg()
    assert "<svg" in Plot("a", "b", "c", x_log=True).line([5.0, 5.0], [0.0, 0.0]).svg()
