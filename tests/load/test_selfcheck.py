"""A run is a measurement only when the generator and the counts say so."""

from __future__ import annotations

import pytest

from freehold.load.metrics import measure
from freehold.load.record import Health, Recording, RequestRecord
from freehold.load.selfcheck import Validity, calibrate, judge

from .conftest import record

GOOD = {
    "ttft_error_ms": 0.4,
    "itl_error_ms": 0.01,
    "cpu_us_per_event": 25.0,
    "events_per_second": 2000.0,
}


def _judge(
    requests: list[RequestRecord],
    *,
    health: tuple[float, float] = (0.2, 0.0003),
    calibration: dict[str, float] | None = None,
    torn: int = 0,
    cache: float | None = None,
    exact: bool = True,
) -> Validity:
    cpu, lag = health
    recording = Recording(
        requests=requests,
        health=[Health(at=n / 10, cpu=cpu, lag=lag, lag_median=lag) for n in range(30)],
        notes=[{"calibration": calibration or GOOD}],
        torn=torn,
    )
    counted = [each for each in requests if not each.warmup]
    return judge(recording, counted, measure(counted), exact, cache)


def _run(count: int = 20, **more: object) -> list[RequestRecord]:
    return [record(n / 10, 0.1, (0.01,) * 9, **more) for n in range(count)]


def test_a_sound_run_is_valid() -> None:
    found = _judge(_run())
    assert found.ok, found.reasons
    assert found.facts["cpu"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"health": (0.9, 0.0003)}, "90% of a core"),
        ({"health": (0.2, 0.05)}, "event loop woke 50.0 ms late"),
        ({"calibration": {**GOOD, "ttft_error_ms": 9.0}}, "TTFT is off by 9.00 ms"),
        ({"calibration": {**GOOD, "itl_error_ms": -0.5}}, "ITL by -0.50 ms"),
        ({"torn": 2}, "2 lines of the records are damaged"),
        ({"cache": 0.4}, "40% of the prompt tokens came from a cache"),
    ],
)
def test_what_makes_a_run_invalid(more: dict[str, object], reason: str) -> None:
    found = _judge(_run(), **more)  # type: ignore[arg-type]
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]


def test_prompts_and_answers_must_be_as_long_as_asked() -> None:
    short = _judge(_run(prompt_tokens=90))
    assert "prompts were not as long as asked" in short.reasons[0]
    assert "stops early" in _judge(_run(asked_output=20)).reasons[0]
    # Lengths that nobody could count are only roughly right.
    assert _judge(_run(prompt_tokens=90), exact=False).ok
    assert not _judge(_run(prompt_tokens=40), exact=False).ok


def test_a_cache_may_hold_what_the_run_itself_repeats() -> None:
    assert _judge(_run(reusable=50), cache=0.5).ok
    assert not _judge(_run(reusable=50), cache=0.7).ok
    # The server's word on each request counts more than its counters.
    assert _judge(_run(cached_tokens=0), cache=0.7).ok
    assert not _judge(_run(cached_tokens=80)).ok


def test_an_open_loop_must_have_sent_on_time() -> None:
    on_time = [record(n / 10, 0.1, (0.01,) * 9, intended=n / 10) for n in range(20)]
    late = [record(n / 10 + 0.2, 0.1, (0.01,) * 9, intended=n / 10) for n in range(20)]
    assert _judge(on_time).ok
    assert "200.0 ms after they were due" in _judge(late).reasons[0]


def test_nothing_that_worked_is_no_measurement() -> None:
    found = _judge([record(0.0, None, (), error_kind="refused", error="no")])
    assert "no request succeeded (1 refused)" in found.reasons[0]
    assert not _judge([]).ok


def test_the_generator_is_calibrated_against_known_latencies() -> None:
    found = calibrate(streams=5, tokens=20)
    assert found.cpu_us_per_event > 0
    assert found.events_per_second > 50
    assert -5 < found.ttft_error_ms < 50 and abs(found.itl_error_ms) < 5
