"""The committed constants are what the measured rows give, and predict rows that were held out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from freehold.planning.speed import calibrate, least_squares
from freehold.planning.speed.calibrate import Measured
from freehold.planning.speed.constants import load_constants
from freehold.planning.speed.rows import measured_rows


@pytest.fixture(scope="module")
def data() -> Measured:
    return calibrate.load_measured()


def percent(data: Measured, ttft: np.ndarray, tpot: np.ndarray) -> list[float]:
    """TTFT median and mean, TPOT median and mean error."""
    errors = [100 * np.abs(ttft / data.ttft - 1), 100 * np.abs(tpot / data.tpot - 1)]
    return [float(figure(error)) for error in errors for figure in (np.median, np.mean)]


def test_no_measured_row_is_left_out(data: Measured) -> None:
    assert len(data.ttft) == len(measured_rows()) >= 292


def test_the_committed_constants_are_those_of_the_rows(data: Measured) -> None:
    fitted = calibrate.fit(data, np.ones(len(data.ttft), dtype=bool))
    held = load_constants()
    for name, value in vars(fitted.general).items():
        assert getattr(held.general, name) == pytest.approx(value, rel=0.01), name
    assert fitted.measured == held.measured
    assert json.loads(calibrate.as_json(held))["general"] == vars(held.general)


def test_held_out_configurations_are_predicted_within_the_aim(data: Measured) -> None:
    """One assignment of folds; `loadtests/benchmarks/latency_model` averages ten."""
    folds = calibrate.folds(data, seed=0)
    for group in set(data.group):
        assert len(set(folds[data.group == group])) == 1
    assert len(set(folds)) == 5
    found = percent(data, *calibrate.held_out(data, folds))
    assert found[0] <= 8
    assert found[1] <= 16
    assert found[2] <= 6  # the aim is 5 and 9, reached on average; single assignments spread
    assert found[3] <= 11


def test_the_fit_is_drawn_to_its_priors_and_past_outliers() -> None:
    at = np.linspace(0, 1, 21)
    truth = 2 + 3 * at
    seen = truth.copy()
    seen[[3, 15]] += 40

    def line(x: np.ndarray) -> np.ndarray:
        return x[0] + x[1] * at - seen

    free = least_squares.fit(line, np.zeros(2), np.full(2, 100.0), noise=0.05)
    assert free == pytest.approx([2, 3], abs=0.1)
    pinned = least_squares.fit(line, np.zeros(2), np.array([100.0, 1e-4]), noise=0.05)
    assert abs(pinned[1]) < 0.1


def test_constants_are_plausible_as_physics() -> None:
    c = load_constants().general
    for share in (c.dense_bandwidth, c.expert_bandwidth, c.kv_bandwidth, c.decode_compute):
        assert 0.1 < share < 1
    for share in (c.prefill_dense, c.prefill_expert, c.prefill_attention):
        assert 0.1 < share < 1
    assert 1e-6 < c.layer_s < 2e-4
    assert 0.5 < c.all_reduce < 2
