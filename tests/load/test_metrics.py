"""The figures, by hand, and equal to vLLM's own on the same requests."""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

from freehold.load.metrics import measure, peak_in_flight, steady
from freehold.load.record import RequestRecord

from .conftest import record


def test_by_hand() -> None:
    requests = [
        record(0.0, 0.1, (0.01, 0.03)),  # TPOT 20 ms
        record(0.5, 0.3, (0.02, 0.02, 0.02)),  # TPOT 20 ms
        record(1.0, 0.2, (0.05,)),  # TPOT 50 ms
    ]
    found = measure(requests, duration=2.0)
    assert found.ttft.median == pytest.approx(200)
    assert found.tpot.median == pytest.approx(20)
    assert found.itl.median == pytest.approx(20)
    assert (found.total_input_tokens, found.total_output_tokens) == (300, 9)
    assert found.output_throughput == pytest.approx(4.5)
    assert found.total_token_throughput == pytest.approx(154.5)
    assert found.request_throughput == pytest.approx(1.5)
    assert found.max_concurrent_requests == 1


def test_tpot_counts_tokens_but_itl_counts_events() -> None:
    """Speculation and coalesced reads bring several tokens an event."""
    found = measure([record(0.0, 0.1, (0.03, 0.03), output_tokens=7)])
    assert found.itl.median == pytest.approx(30)
    assert found.tpot.median == pytest.approx(10)


def test_an_answer_of_one_token_has_no_tpot() -> None:
    found = measure([record(0.0, 0.1, ()), record(0.0, 0.1, (0.02,))])
    assert found.tpot.median == pytest.approx(20)


def test_the_peak_is_the_true_one_and_vllm_s_stands_beside_it() -> None:
    """One request at a time, four a second: never two at once, but four touch each second."""
    requests = [record(n * 0.25, 0.1, (0.1,)) for n in range(8)]
    found = measure(requests)
    assert found.max_concurrent_requests == 1
    assert found.vllm_max_concurrent_requests == 4


def test_an_end_and_a_start_at_one_instant_do_not_overlap() -> None:
    assert peak_in_flight([record(0.0, 0.5, (0.5,)), record(1.0, 0.5, (0.5,))]) == 1
    assert peak_in_flight([record(0.0, 0.5, (0.6,)), record(1.0, 0.5, (0.5,))]) == 2
    assert peak_in_flight([]) == 0


def test_failed_cancelled_and_warm_up_requests_are_in_no_latency() -> None:
    good = record(0.0, 0.1)
    failed = record(0.0, 9.0, error_kind="timeout", error="no byte")
    cancelled = record(0.0, 9.0, cancelled=True)
    warm = record(0.0, 9.0, warmup=True)
    found = measure([good, failed, cancelled, warm])
    assert (found.completed, found.failed, found.cancelled) == (1, 1, 1)
    assert found.ttft.median == pytest.approx(100)
    assert found.error_kinds == {"timeout": 1}


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    late = record(1.5, 0.1, (0.1,), intended=1.0)
    found = measure([late])
    assert found.e2el.median == pytest.approx(200)
    assert found.e2el_from_intended and found.e2el_from_intended.median == pytest.approx(700)
    assert found.dispatch_delay and found.dispatch_delay.median == pytest.approx(500)


def test_a_steady_window_counts_what_falls_into_it() -> None:
    # Tokens at 0.5, 1.0, 1.5, 2.0; the prompt is read at 0.5.
    one = record(0.0, 0.5, (0.5, 0.5, 0.5))
    inside = steady([one], 0.75, 1.75)
    assert inside["output_throughput"] == pytest.approx(2.0)
    assert inside["total_token_throughput"] == pytest.approx(2.0)
    assert inside["request_throughput"] == 0
    assert steady([one], 0.0, 4.0)["total_token_throughput"] == pytest.approx(26.0)


def _some(seed: int, count: int) -> list[RequestRecord]:
    rng = random.Random(seed)
    requests = []
    for _ in range(count):
        gaps = tuple(rng.expovariate(50) for _ in range(rng.randrange(0, 60)))
        tokens = max(1, len(gaps) + 1 + rng.choice((0, 0, 0, 5)))
        broken = {"error_kind": "timeout", "error": "x"} if rng.random() < 0.1 else {}
        requests.append(
            record(
                rng.uniform(0, 20),
                rng.uniform(0.02, 2),
                gaps,
                output_tokens=tokens,
                prompt_tokens=rng.randrange(1, 5000),
                **broken,
            )
        )
    return requests


@pytest.mark.vllm
@pytest.mark.parametrize(("seed", "count"), [(1, 1), (2, 25), (3, 400)])
def test_equal_to_vllm_on_the_same_requests(seed: int, count: int) -> None:
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
    from vllm.benchmarks.serve import calculate_metrics

    requests = [r for r in _some(seed, count) if count > 1 or r.ok] or [record()]
    outputs = [
        RequestFuncOutput(
            success=r.ok,
            latency=r.latency or 0.0,
            output_tokens=r.output_tokens or 0,
            ttft=r.ttft or 0.0,
            itl=list(r.itls),
            prompt_len=r.prompt_tokens or 0,
            start_time=r.started,
            error=r.error or "",
        )
        for r in requests
    ]
    asked = [SimpleNamespace() for _ in requests]
    theirs, _ = calculate_metrics(asked, outputs, 25.0, None, [50, 90, 95, 99], {})  # type: ignore[arg-type]
    ours = measure(requests, duration=25.0)
    assert (ours.completed, ours.failed) == (theirs.completed, theirs.failed)
    assert ours.total_input_tokens == theirs.total_input
    assert ours.total_output_tokens == theirs.total_output
    for name in ("request_throughput", "output_throughput", "total_token_throughput"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-12), name
    for name in ("ttft", "tpot", "itl", "e2el"):
        mine = getattr(ours, name)
        assert mine.mean == pytest.approx(getattr(theirs, f"mean_{name}_ms"), rel=1e-12)
        assert mine.median == pytest.approx(getattr(theirs, f"median_{name}_ms"), rel=1e-12)
        assert mine.std == pytest.approx(getattr(theirs, f"std_{name}_ms"), rel=1e-9, abs=1e-9)
        expected = dict(getattr(theirs, f"percentiles_{name}_ms"))
        for percentile, value in mine.percentiles.items():
            assert value == pytest.approx(expected[percentile], rel=1e-12)
    assert ours.vllm_max_concurrent_requests == theirs.max_concurrent_requests
    assert ours.max_output_tokens_per_s == theirs.max_output_tokens_per_s
    assert np.isfinite(ours.max_concurrent_requests)
