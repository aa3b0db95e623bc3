"""Robust nonlinear least squares with priors: a Levenberg-Marquardt step, numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Vector = np.ndarray


def fit(
    residuals: Callable[[Vector], Vector],
    start: Vector,
    spread: Vector,
    *,
    noise: float,
    steps: int = 25,
) -> Vector:
    """The parameters near `start` that make `residuals` small, the same on every run.

    Each parameter is drawn to its start as a normal prior of standard deviation `spread` does.
    Residuals within `noise` count squared, larger ones by their size (pseudo-Huber): an outlier
    does not bend the fit.
    """
    x = np.array(start, dtype=float)
    damping = 1e-2
    cost = _cost(residuals(x), x, start, spread, noise)
    for _ in range(steps):
        here = residuals(x)
        weight = 1 / np.sqrt(1 + (here / noise) ** 2) / noise**2
        slopes = _slopes(residuals, x, here)
        curvature = slopes.T @ (slopes * weight[:, None]) + np.diag(1 / spread**2)
        gradient = slopes.T @ (weight * here) + (x - start) / spread**2
        moved = _better(residuals, x, (start, spread, noise), (curvature, gradient, damping), cost)
        if moved is None:
            break
        x, tried, damping = moved
        gained, cost = cost - tried, tried
        if gained < 1e-7 * cost:
            break
    return x


def _better(
    residuals: Callable[[Vector], Vector],
    x: Vector,
    problem: tuple[Vector, Vector, float],
    model: tuple[Vector, Vector, float],
    cost: float,
) -> tuple[Vector, float, float] | None:
    """A step that lowers the cost, its cost and the next damping; None where none is found."""
    curvature, gradient, damping = model
    while damping < 1e8:
        move = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -gradient)
        tried = _cost(residuals(x + move), x + move, *problem)
        if tried < cost:
            return x + move, tried, max(damping / 4, 1e-9)
        damping *= 4
    return None


def _cost(here: Vector, x: Vector, start: Vector, spread: Vector, noise: float) -> float:
    data = 2 * np.sum(np.sqrt(1 + (here / noise) ** 2) - 1)
    return float(data + np.sum(((x - start) / spread) ** 2))


def _slopes(residuals: Callable[[Vector], Vector], x: Vector, here: Vector) -> Vector:
    columns = []
    for index in range(len(x)):
        moved = x.copy()
        moved[index] += 1e-5
        columns.append((residuals(moved) - here) / 1e-5)
    return np.stack(columns, axis=1)
