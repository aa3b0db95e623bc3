"""A cluster's own factors on the latency model, from what a load test measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from freehold.config import load_stack
from freehold.local.simulated import replica_of
from freehold.planning.plan import make_plan
from freehold.planning.speed import Deployment, Factors, Load, step_seconds
from freehold.planning.speed import predict as plain
from freehold.planning.speed.adjust import Level, errors, fit, predict

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    pool = make_plan("medium", load_stack("medium", ROOT)).pools[0]
    found = replica_of(pool)
    assert found is not None
    return found


def measured(deployment: Deployment, truth: Factors, *concurrencies: float) -> list[Level]:
    loads = [Load(24_000, 500, at, 0.6) for at in concurrencies]
    return [Level(load, *predict(deployment, load, truth)) for load in loads]


def test_without_factors_it_is_the_model(deployment: Deployment) -> None:
    load = Load(24_000, 500, 6, 0.6)
    found = plain(deployment, load)
    assert predict(deployment, load, Factors()) == (found.median_ttft_ms, found.median_tpot_ms)


def test_several_levels_tell_the_factors_apart(deployment: Deployment) -> None:
    truth = Factors(step=1.3, prefill=0.8, request=1.2)
    levels = measured(deployment, truth, 1, 2, 4, 8, 16)
    found = fit(deployment, levels)
    assert found.step == pytest.approx(1.3, rel=0.05)
    assert found.prefill == pytest.approx(0.8, rel=0.05)
    after = errors(deployment, levels, found)
    assert max(abs(e) for pair in after for e in pair) < 0.02
    assert max(abs(e) for pair in errors(deployment, levels, Factors()) for e in pair) > 0.15


def test_the_simulator_s_steps_take_the_factor_too(deployment: Deployment) -> None:
    slower = replace(deployment, factors=Factors(step=1.5))

    def step(of: Deployment) -> float:
        return step_seconds(of, decode_sequences=4, decode_context_tokens=96_000)

    assert step(slower) == pytest.approx(1.5 * step(deployment), rel=0.02)


def test_what_is_as_predicted_changes_nothing(deployment: Deployment) -> None:
    found = fit(deployment, measured(deployment, Factors(), 1, 4, 16))
    assert (found.step, found.prefill, found.request) == pytest.approx((1, 1, 1), abs=0.01)
