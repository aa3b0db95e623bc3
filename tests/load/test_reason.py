"""Why a promise was missed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from freehold.config.demand import Objectives
from freehold.load.reason import reason
from freehold.load.server_side import Series
from freehold.load.verdict import Check, Promise
from freehold.planning.forecast import Forecast

SLOW = Check("median_ttft_ms", "objective", 900.0, 500.0, None, False)
FAILED = Check("failed requests", "failures", 0.3, 0.01, None, False)
FORECAST = Forecast(4, 100, 10, 10, 400, 4000, 1, 4, "measured: x", (0.8, 1.3), (0.9, 1.1))
PROMISE = Promise(objectives=Objectives(median_ttft_ms=500), predicted=FORECAST, seats=8)


def engines(**last: float) -> list[Series]:
    calm = {"running": 1.0, "waiting": 0.0, "kv_cache_usage": 0.1, "preemptions": 2.0}
    return [Series("a", [0, 2], [calm, calm]), Series("b", [0, 2], [calm, {**calm, **last}])]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (
            {"preemptions": 9.0, "kv_cache_usage": 1.0},
            "KV exhaustion: 7 preemptions, the cache was 100%",
        ),
        ({"waiting": 3.0, "kv_cache_usage": 0.95}, "3 requests waited for room in it"),
        ({"waiting": 3.0, "running": 8.0}, "queue: all 8 seats were taken, 3 requests waited"),
        ({"rejections": 4.0}, "queue: 4 requests were refused by a full queue"),
        ({"waiting": 3.0}, "speed: nothing was full; prompts that came together"),
        ({}, "speed: nothing was full; prompts that came together"),
    ],
)
def test_what_was_full_is_the_reason(last: dict[str, float], expected: str) -> None:
    assert expected in (reason(PROMISE, [SLOW], engines(**last)) or "")


def test_a_prediction_above_the_objective_could_not_be_kept() -> None:
    slower = replace(PROMISE, predicted=replace(FORECAST, median_ttft_ms=800))
    assert "the prediction itself is above" in (reason(slower, [SLOW], engines()) or "")


def test_slow_tokens_are_told_as_such() -> None:
    tpot = Check("median_tpot_ms", "prediction", 27.0, 15.0, 10.0, False)
    said = reason(PROMISE, [SLOW, tpot], engines()) or ""
    assert said == "speed: nothing was full; each token took 2.7 times what was promised"


def test_no_reason_is_made_up() -> None:
    assert reason(PROMISE, [], engines(preemptions=9.0)) is None
    assert reason(PROMISE, [SLOW], []) is None, "nobody read the engines"
    assert reason(PROMISE, [FAILED, SLOW], engines()) is None, "failures are listed by their kind"
    assert "refused" in (reason(PROMISE, [FAILED], engines(rejections=1.0)) or "")
