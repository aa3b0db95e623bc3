"""Arrival processes and traces."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from freehold.config import FreeholdError
from freehold.load.arrivals import arrivals, read_trace
from freehold.load.stages import SHAPES, Stage, stages_of


def _gaps(process: str, burstiness: float = 1.0) -> np.ndarray:
    stage = Stage(name="steady", rate=50.0)
    found = arrivals([stage], process, burstiness, seed=1, requests=20_000)  # type: ignore[arg-type]
    return np.diff([arrival.at for arrival in found])


@pytest.mark.parametrize(
    ("process", "burstiness", "variation"),
    [("constant", 1.0, 0.0), ("poisson", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 4.0, 0.5)],
)
def test_each_process_has_its_rate_and_its_spread(
    process: str, burstiness: float, variation: float
) -> None:
    gaps = _gaps(process, burstiness)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.05, abs=1e-6)


def test_stages_follow_each_other_at_their_rates() -> None:
    stages = [
        Stage(name="calm", seconds=10, rate=5, measured=False),
        Stage(name="spike", seconds=2, rate=100),
    ]
    found = list(arrivals(stages, "constant"))
    calm = [a for a in found if a.stage == "calm"]
    spike = [a for a in found if a.stage == "spike"]
    assert len(calm) == pytest.approx(50, abs=1) and not any(a.measured for a in calm)
    assert len(spike) == pytest.approx(200, abs=1) and all(10 <= a.at < 12 for a in spike)


def test_the_same_seed_is_the_same_schedule() -> None:
    stage = Stage(name="s", rate=3.0)
    first, again, other = (
        [a.at for a in arrivals([stage], "poisson", seed=seed, requests=9)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_shares_of_processes_add_up_to_the_whole() -> None:
    stage = Stage(name="s", rate=3.0)
    whole = [a.at for a in arrivals([stage], "poisson", seed=5, requests=10)]
    parts = [
        [
            a.at
            for a in itertools.islice(arrivals([stage], "poisson", seed=5, requests=10), n, None, 3)
        ]
        for n in range(3)
    ]
    assert sorted(itertools.chain(*parts)) == whole


def test_a_trace_is_replayed_from_its_first_arrival(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(
        '{"timestamp": 102.0, "input_tokens": 30, "output_tokens": 4}\n\n'
        '{"timestamp": 100.0, "input_length": 50, "output_length": 9}\n'
    )
    first, second = read_trace(trace, speed=2)
    assert (first.at, first.input_tokens, first.output_tokens) == (0.0, 50, 9)
    assert (second.at, second.input_tokens, second.output_tokens) == (1.0, 30, 4)
    trace.write_text('{"timestamp_ms": 1500}\n')
    assert read_trace(trace)[0].input_tokens is None


@pytest.mark.parametrize(
    "line", ['{"input_tokens": 3}', "nonsense", '{"timestamp": 1, "input_tokens": 0}', "[1]"]
)
def test_a_bad_trace_names_the_line(tmp_path: Path, line: str) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 1}\n' + line + "\n")
    with pytest.raises(FreeholdError, match=r"trace.jsonl, line 2.*timestamp"):
        read_trace(trace)
    with pytest.raises(FreeholdError, match="cannot read"):
        read_trace(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("open_loop", [True, False])
def test_every_shape_reaches_the_level_in_the_time_given(shape: str, open_loop: bool) -> None:
    stages = stages_of(shape, 16, open_loop, 120, 10)  # type: ignore[arg-type]
    assert not stages[0].measured and stages[0].seconds == 10
    assert sum(stage.seconds or 0 for stage in stages[1:]) == pytest.approx(120)
    levels = [(stage.rate if open_loop else stage.concurrency) or 0 for stage in stages]
    assert max(levels) == 16
    assert all(stage.measured for stage in stages[1:])
    if shape in ("step", "ramp"):
        assert levels[1:] == sorted(set(levels[1:])) and len(levels) > 4
