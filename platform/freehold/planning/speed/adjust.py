"""This cluster's own factors on the latency model, fitted on what a load test measured there.

Three factors at most, because a report has few levels of load: on the model's own constants for a
step, for computing a prompt, and for what a request takes beside them. Each is drawn to 1 as far as
the model was wrong on machines it had not seen, so that one level alone does not bend all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import least_squares
from .deployment import Deployment, Factors, Load
from .predict import predict as planned

# How far each may be from 1, as a standard deviation of its logarithm: the bands of models and GPUs that
# were not measured (constants.json, `new_model`).
_SPREADS = {"step": 0.3, "prefill": 0.4, "request": 0.5}
# Two runs of one configuration differ by that much (calibrate.NOISE: 1 to 7 %).
_NOISE = 0.03


@dataclass(frozen=True)
class Level:
    """One measured level of load: the load on one replica, and its medians in milliseconds."""

    load: Load
    median_ttft_ms: float
    median_tpot_ms: float


def fit(deployment: Deployment, levels: Sequence[Level]) -> Factors:
    """The factors that explain the levels best, and the closest to 1 among those."""
    wanted = np.log([[level.median_ttft_ms, level.median_tpot_ms] for level in levels]).ravel()

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.log(_predicted(deployment, levels, _factors(x))).ravel() - wanted

    spreads = np.array(list(_SPREADS.values()))
    return _factors(least_squares.fit(residuals, np.zeros(3), spreads, noise=_NOISE))


def _factors(x: np.ndarray) -> Factors:
    step, prefill, request = (math.exp(value) for value in x)
    return Factors(step, prefill, request)


def predict(deployment: Deployment, load: Load, factors: Factors) -> tuple[float, float]:
    """Median TTFT and TPOT in milliseconds, with the factors."""
    found = planned(replace(deployment, factors=factors), load)
    return found.median_ttft_ms, found.median_tpot_ms


def _predicted(d: Deployment, levels: Sequence[Level], factors: Factors) -> np.ndarray:
    return np.array([predict(d, level.load, factors) for level in levels])


def errors(d: Deployment, levels: Sequence[Level], factors: Factors) -> list[tuple[float, float]]:
    """Predicted over measured, less 1, of each level's TTFT and TPOT."""
    found = _predicted(d, levels, factors)
    return [
        (ttft / level.median_ttft_ms - 1, tpot / level.median_tpot_ms - 1)
        for (ttft, tpot), level in zip(found, levels, strict=True)
    ]


def as_json(factors: Factors) -> dict[str, float]:
    return {name: round(getattr(factors, name), 4) for name in _SPREADS}
