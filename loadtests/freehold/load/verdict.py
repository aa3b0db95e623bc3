"""Kept or not: the plan's predictions and the stack's objectives against what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from freehold.config.demand import Demand, Objectives
from freehold.planning.forecast import Forecast

from .metrics import Metrics
from .stages import Stage

# A request that fails is a promise broken, but a worker that dies in a rehearsal takes its own along.
FAILED_SHARE = 0.01
# The run's load is the plan's when it differs by no more than this.
_SAME_LOAD = 0.15
# Against an earlier report: worse by more than this, beyond chance.
WORSE = 0.05
_RESAMPLES = 1000
_CONFIDENCE = 95


@dataclass(frozen=True)
class Promise:
    """What the plan says of one pool."""

    demand: Demand | None = None
    objectives: Objectives = field(default_factory=Objectives)
    predicted: Forecast | None = None
    usd_per_hour: float | None = None
    seats: int | None = None
    """Requests that a worker runs at a time, where the stack says so."""

    def as_json(self) -> dict[str, Any]:
        return {
            "demand": self.demand.model_dump(exclude_none=True) if self.demand else None,
            "objectives": self.objectives.model_dump(exclude_none=True),
            "predicted": asdict(self.predicted) if self.predicted else None,
            "usd_per_hour": self.usd_per_hour,
            "seats": self.seats,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Promise:
        predicted = data["predicted"]
        return cls(
            demand=Demand.model_validate(data["demand"]) if data["demand"] else None,
            objectives=Objectives.model_validate(data["objectives"]),
            predicted=Forecast(**predicted) if predicted else None,
            usd_per_hour=data["usd_per_hour"],
            seats=data.get("seats"),
        )


@dataclass(frozen=True)
class Check:
    """One figure. `limit` is what it had to keep; `expected` what was predicted (None: an objective)."""

    metric: str
    source: str
    """`objective`, `prediction`, `baseline` or `failures`."""
    measured: float
    limit: float
    expected: float | None
    met: bool
    note: str = ""

    @property
    def difference(self) -> float | None:
        """Measured against expected: +0.10 is ten per cent more."""
        return self.measured / self.expected - 1 if self.expected else None


@dataclass(frozen=True)
class Verdict:
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    reason: str | None = None
    """What was full when something was missed, as far as the engines were read."""

    @property
    def missed(self) -> list[Check]:
        return [check for check in self.checks if not check.met]

    @property
    def met(self) -> bool:
        return not self.missed

    def as_json(self) -> dict[str, Any]:
        checks = [{**asdict(c), "difference": c.difference} for c in self.checks]
        return {
            "met": self.met,
            "reason": self.reason,
            "checks": checks,
            "notes": list(self.notes),
        }


def judge(
    promise: Promise,
    metrics: Metrics,
    steady: Mapping[str, float],
    stage: Stage | None,
) -> Verdict:
    """`steady`: rates without ramp and drain, which is what a prediction is about. `stage`: the load
    that was asked for; None: several levels."""
    notes: list[str] = []
    checks = [*failures(metrics), *_objectives(promise.objectives, metrics)]
    if promise.predicted is None:
        notes.append("no prediction to compare with: the plan has none for this pool")
    elif different := _other_load(promise, metrics, stage):
        notes.append(f"not compared with the prediction, which is for another load: {different}")
    else:
        checks += _predictions(promise.predicted, promise.demand, metrics, steady)
        notes.append(f"prediction: {promise.predicted.basis}")
    return Verdict(tuple(checks), tuple(notes))


def failures(metrics: Metrics) -> Iterator[Check]:
    """Requests that failed, as a share of all."""
    total = metrics.completed + metrics.failed
    share = metrics.failed / total if total else 1.0
    what = ", ".join(f"{count} {kind}" for kind, count in metrics.error_kinds.items())
    yield Check(
        "failed requests", "failures", share, FAILED_SHARE, None, share <= FAILED_SHARE, what
    )


def lookups(name: str, completed: int, failed: int) -> Check:
    """The calls before a question must work as well: without them a client has nothing to ask with."""
    share = failed / max(completed + failed, 1)
    met = share <= FAILED_SHARE
    return Check(f"failed {name} calls", "failures", share, FAILED_SHARE, None, met)


def _objectives(objectives: Objectives, metrics: Metrics) -> Iterator[Check]:
    for name, measured in (
        ("median_ttft_ms", metrics.ttft.median),
        ("median_tpot_ms", metrics.tpot.median),
    ):
        limit = getattr(objectives, name)
        if limit is not None:
            yield Check(name, "objective", measured, limit, None, measured <= limit)


def _predictions(
    predicted: Forecast, demand: Demand | None, metrics: Metrics, steady: Mapping[str, float]
) -> Iterator[Check]:
    """Within the bands that the latency model gives itself. Better than predicted is kept as well."""
    for name, measured, worst in (
        ("median_ttft_ms", metrics.ttft.median, predicted.ttft_band[1]),
        ("median_tpot_ms", metrics.tpot.median, predicted.tpot_band[1]),
        ("median_itl_ms", metrics.itl.median, predicted.tpot_band[1]),
    ):
        expected = getattr(predicted, name)
        limit = expected * worst
        yield Check(name, "prediction", measured, limit, expected, measured <= limit)
    slower = _slower_at_worst(predicted, demand)
    for name in ("request_throughput", "output_throughput", "total_token_throughput"):
        expected = getattr(predicted, name)
        limit = expected / slower
        yield Check(name, "prediction", steady[name], limit, expected, steady[name] >= limit)
    in_flight = float(metrics.max_concurrent_requests)
    wanted = min(predicted.concurrency, predicted.max_concurrent_requests)
    limit = np.floor(wanted)
    yield Check(
        "max_concurrent_requests", "prediction", in_flight, limit, wanted, bool(in_flight >= limit)
    )


def _slower_at_worst(predicted: Forecast, demand: Demand | None) -> float:
    """How much longer a request takes at the worst ends of both bands: so much less comes through."""
    steps = (demand.output_tokens - 1) if demand else 100
    first, each = predicted.median_ttft_ms, predicted.median_tpot_ms * steps
    worst = first * predicted.ttft_band[1] + each * predicted.tpot_band[1]
    return worst / (first + each)


def planned(promise: Promise, stages: Sequence[Stage]) -> list[Stage]:
    """The stages whose load is the closest to the one that was predicted, if any comes near it."""
    predicted = promise.predicted
    near = [stage for stage in stages if predicted and not _other_level(predicted, stage)]
    if not near or predicted is None:
        return []

    def off(stage: Stage) -> float:
        wanted = predicted.request_throughput if stage.rate else predicted.concurrency
        return abs(stage.level - wanted)

    return [stage for stage in near if off(stage) == min(map(off, near))]


def not_reached(planned: Stage, last: str) -> Verdict:
    """The test ended, saturated or broken off, before it came to the plan's load."""
    note = f"the test ended at {last}, before the plan's load was sent"
    check = Check("load", "prediction", 0.0, planned.level, planned.level, False, note)
    return Verdict((check,))


def _other_level(predicted: Forecast, stage: Stage) -> str:
    """How a stage's load differs from the plan's; empty when it does not."""
    if stage.concurrency is not None:
        planned = predicted.concurrency
        if abs(stage.concurrency - planned) > max(1.0, _SAME_LOAD * planned):
            return f"{stage.concurrency:g} in flight instead of {planned:.1f}"
    elif stage.rate is not None:
        planned = predicted.request_throughput
        if abs(stage.rate - planned) > _SAME_LOAD * planned:
            return f"{stage.rate:g} requests a second instead of {planned:.3g}"
    return ""


def _other_load(promise: Promise, metrics: Metrics, stage: Stage | None) -> str:
    """In what the run's load differs from the one that was predicted; empty when it does not."""
    assert promise.predicted is not None
    level = _other_level(promise.predicted, stage) if stage else ""
    found = [level] if level else []
    if promise.demand is None or not metrics.completed:
        return ", ".join(found)
    for name, total, wanted in (
        ("input", metrics.total_input_tokens, promise.demand.input_tokens),
        ("output", metrics.total_output_tokens, promise.demand.output_tokens),
    ):
        mean = total / metrics.completed
        if abs(mean - wanted) > _SAME_LOAD * wanted:
            found.append(f"{mean:.0f} {name} tokens a request instead of {wanted}")
    return ", ".join(found)


# --- against an earlier report ---------------------------------------------------------------------------

_COMPARED = {
    "median_ttft_ms": "ttfts",
    "median_tpot_ms": "tpots",
    "median_e2el_ms": "latencies",
    "output_throughput": "output_tokens_by_second",
}
_HIGHER_IS_BETTER = ("output_throughput",)


def against_baseline(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Check]:
    """Bootstrap over requests (and over seconds, for throughput): worse by more than WORSE with
    confidence is a regression; anything else may be chance."""
    checks: list[Check] = []
    for metric, key in _COMPARED.items():
        new, old = _values(report, key), _values(baseline, key)
        if len(new) < 2 or len(old) < 2:
            continue
        higher = metric in _HIGHER_IS_BETTER
        centre = np.mean if higher else np.median
        scale = 1.0 if higher else 1000.0
        low, high = ratio_interval(new, old, mean=higher)
        expected = float(centre(old)) * scale
        worse = high < 1 - WORSE if higher else low > 1 + WORSE
        limit = expected * (1 - WORSE if higher else 1 + WORSE)
        note = f"{_CONFIDENCE} % interval of the change: {low - 1:+.1%} to {high - 1:+.1%}"
        measured = float(centre(new)) * scale
        checks.append(Check(metric, "baseline", measured, limit, expected, not worse, note))
    return checks


def ratio_interval(
    new: np.ndarray, old: np.ndarray, *, mean: bool = False, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of new's median (or mean) over old's, by resampling each."""
    rng = np.random.default_rng(seed)
    centre = np.mean if mean else np.median

    def resampled(values: np.ndarray) -> np.ndarray:
        return np.array([centre(rng.choice(values, len(values))) for _ in range(_RESAMPLES)])

    ratios = resampled(new) / np.maximum(resampled(old), 1e-12)
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(ratios, (tail, 100 - tail))
    return float(low), float(high)


def _values(report: Mapping[str, Any], key: str) -> np.ndarray:
    values: Sequence[Any] = report.get(key) or []
    return np.array([value for value in values if value is not None], dtype=float)
