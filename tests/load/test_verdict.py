"""Promises kept or missed, and reports compared beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from freehold.config.demand import Demand, Objectives
from freehold.load.metrics import Metrics, measure
from freehold.load.stages import Stage
from freehold.load.verdict import Promise, Verdict, against_baseline, judge, planned
from freehold.planning.forecast import Forecast

from .conftest import record

DEMAND = Demand(concurrency=2, input_tokens=100, output_tokens=10)
# Of the run below: two in flight, 0.1 s and 9 x 10 ms each, which is 10.5 requests a second.
FORECAST = Forecast(
    concurrency=2,
    median_ttft_ms=100,
    median_tpot_ms=10,
    median_itl_ms=10,
    output_throughput=105,
    total_token_throughput=1158,
    request_throughput=10.5,
    max_concurrent_requests=2,
    basis="measured: here",
    ttft_band=(0.8, 1.3),
    tpot_band=(0.9, 1.1),
)


def _metrics(slower: float = 1.0, failed: int = 0) -> Metrics:
    length = 0.19 * slower
    requests = [
        record(n * length + user * 0.01, 0.1 * slower, (0.01 * slower,) * 9)
        for n in range(20)
        for user in range(2)
    ]
    requests += [record(1.0, None, (), error_kind="http 503", error="full") for _ in range(failed)]
    return measure(requests)


def _rates(metrics: Metrics) -> dict[str, float]:
    names = ("request_throughput", "output_throughput", "total_token_throughput")
    return {name: getattr(metrics, name) for name in names}


def _judge(promise: Promise, metrics: Metrics, **level: float) -> Verdict:
    stage = Stage(name="steady", **(level or {"concurrency": 2}))  # type: ignore[arg-type]
    return judge(promise, metrics, _rates(metrics), stage)


def _missed(found: Verdict) -> set[str]:
    return {check.metric for check in found.checks if not check.met}


def test_a_kept_prediction_is_met_on_all_seven_metrics() -> None:
    found = _judge(Promise(DEMAND, predicted=FORECAST), _metrics())
    assert found.met, _missed(found)
    predicted = {check.metric for check in found.checks if check.source == "prediction"}
    assert len(predicted) == 7
    by_name = {check.metric: check for check in found.checks}
    assert by_name["median_tpot_ms"].difference == pytest.approx(0.0, abs=0.01)


def test_better_than_predicted_is_kept_as_well() -> None:
    assert _judge(Promise(DEMAND, predicted=FORECAST), _metrics(0.6)).met


def test_a_stack_that_is_too_small_misses_and_says_in_what() -> None:
    found = _judge(Promise(DEMAND, predicted=FORECAST), _metrics(2.0))
    assert not found.met
    assert _missed(found) >= {"median_ttft_ms", "median_tpot_ms", "output_throughput"}


def test_objectives_hold_without_a_prediction() -> None:
    objectives = Objectives(median_ttft_ms=150, median_tpot_ms=9)
    found = _judge(Promise(DEMAND, objectives), _metrics())
    assert _missed(found) == {"median_tpot_ms"}
    assert "no prediction" in found.notes[0]


def test_another_load_is_not_held_against_the_prediction() -> None:
    many = _judge(Promise(DEMAND, predicted=FORECAST), _metrics(3.0), concurrency=64)
    assert many.met and "64 in flight instead of 2.0" in many.notes[0]
    faster = _judge(Promise(DEMAND, predicted=FORECAST), _metrics(3.0), rate=50.0)
    assert faster.met and "50 requests a second instead of 10.5" in faster.notes[0]
    longer = Promise(Demand(concurrency=2, input_tokens=400, output_tokens=10), predicted=FORECAST)
    assert "100 input tokens a request instead of 400" in _judge(longer, _metrics()).notes[0]


def test_of_several_levels_the_closest_to_the_plan_s_is_held_against_it() -> None:
    promise = Promise(DEMAND, predicted=FORECAST)
    levels = [Stage(name=f"{n}", concurrency=n) for n in (1, 2, 4, 8)]
    assert [stage.name for stage in planned(promise, levels)] == ["2"]
    assert planned(promise, levels[2:]) == []
    rates = [Stage(name=f"{n}", rate=n) for n in (5, 10, 20)]
    assert [stage.name for stage in planned(promise, rates)] == ["10"]
    assert planned(Promise(), levels) == []


def test_more_than_one_per_cent_of_failures_is_a_miss() -> None:
    found = _judge(Promise(), _metrics(failed=3))
    assert _missed(found) == {"failed requests"}
    assert next(c for c in found.checks).note == "3 http 503"


def test_a_promise_survives_being_written_down() -> None:
    promise = Promise(DEMAND, Objectives(median_ttft_ms=5), FORECAST, 1.5)
    data: Any = promise.as_json()
    data["predicted"] = {
        k: list(v) if isinstance(v, tuple) else v for k, v in data["predicted"].items()
    }
    again = Promise.from_json(data)
    assert (again.demand, again.objectives, again.usd_per_hour) == (DEMAND, promise.objectives, 1.5)
    assert again.predicted and again.predicted.ttft_band[1] == 1.3


def _report(seed: int, slower: float = 1.0, count: int = 300) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "ttfts": (rng.gamma(4, 0.05, count) * slower).tolist(),
        "tpots": [None, *(rng.gamma(20, 0.001, count) * slower).tolist()],
        "latencies": (rng.gamma(9, 0.2, count) * slower).tolist(),
        "output_tokens_by_second": (rng.normal(500, 40, 60) / slower).tolist(),
    }


def test_the_same_system_twice_is_no_regression() -> None:
    checks = against_baseline(_report(1), _report(2))
    assert len(checks) == 4
    assert all(check.met for check in checks), [check for check in checks if not check.met]


def test_a_third_slower_is_one_and_the_interval_holds_it() -> None:
    checks = against_baseline(_report(1, 1.33), _report(2))
    assert not any(check.met for check in checks)
    assert all("% interval" in check.note for check in checks)


def test_a_few_requests_prove_nothing() -> None:
    checks = against_baseline(_report(1, 1.1, count=5), _report(2, count=5))
    assert all(check.met for check in checks if check.metric != "output_throughput")
