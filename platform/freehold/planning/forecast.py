"""From a demand and a sized replica to the speed of a whole pool, by the latency model.

Demand in users or requests a minute has no concurrency of its own: how many requests are in flight
follows from how long one takes, which follows from how many are in flight. The smallest number that
agrees with itself is found by halving.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freehold.config.calibration import Calibration
from freehold.config.demand import Demand
from freehold.config.engine import NgramSpeculation

from .sizing import Fit, Wanted
from .speed import Deployment, Factors, Load, Prediction, Speculation, predict

if TYPE_CHECKING:
    from .disaggregation import Parts

# In-flight requests are found to this accuracy; the latency model is far coarser.
_AGREES = 0.01


@dataclass(frozen=True)
class Forecast:
    """A pool at its planned load. Times are medians in milliseconds, throughputs are the pool's."""

    concurrency: float
    median_ttft_ms: float
    median_tpot_ms: float
    median_itl_ms: float
    output_throughput: float
    total_token_throughput: float
    request_throughput: float
    max_concurrent_requests: float
    basis: str
    """`measured: ...`, or that it comes from physics alone."""
    ttft_band: tuple[float, float]
    """Factors between which the truth lies for most."""
    tpot_band: tuple[float, float]
    parts: Parts | None = None
    """Of a pool that is taken apart."""


class Forecaster:
    """One pool's replicas on one kind of GPU in one split, at any number of replicas."""

    def __init__(self, wanted: Wanted, fit: Fit) -> None:
        demand = wanted.pool.demand
        assert demand is not None, "only pools with a demand have a speed"
        self._demand: Demand = demand
        self._fit = fit
        self._deployment = deployment_of(wanted, fit)
        self._holds = float(fit.at_typical_length)
        self._known: dict[float, Prediction] = {}

    def at(self, replicas: int) -> Forecast | None:
        """The pool with so many replicas; None when they cannot carry the demand at any latency."""
        in_flight = self._in_flight(replicas)
        if in_flight is None or in_flight / replicas > self._holds:
            return None
        one = self._replica(in_flight / replicas)
        return Forecast(
            concurrency=in_flight,
            median_ttft_ms=one.median_ttft_ms,
            median_tpot_ms=one.median_tpot_ms,
            median_itl_ms=one.median_itl_ms,
            output_throughput=one.output_throughput * replicas,
            total_token_throughput=one.total_token_throughput * replicas,
            request_throughput=one.request_throughput * replicas,
            max_concurrent_requests=one.max_concurrent_requests * replicas,
            basis=one.basis,
            ttft_band=one.ttft_band,
            tpot_band=one.tpot_band,
        )

    def _replica(self, concurrency: float) -> Prediction:
        # Fewer than one request in flight: mostly idle, and each sees an empty engine.
        at = max(1.0, concurrency)
        if at not in self._known:
            demand = self._demand
            load = Load(demand.input_tokens, demand.output_tokens, at, demand.prefix_hit_rate)
            self._known[at] = predict(self._deployment, load)
        return self._known[at]

    def seconds(self, concurrency: float) -> float:
        """How long one request takes at so many in flight on a replica."""
        one = self._replica(concurrency)
        steps = self._demand.output_tokens - 1
        return (one.median_ttft_ms + steps * one.median_tpot_ms) / 1e3

    def most_within(self, median_ttft_ms: float, most: int) -> int:
        """Requests in flight on a replica, of `most`, at which the first token still comes in time."""
        while most > 1 and self._replica(most).median_ttft_ms > median_ttft_ms:
            most -= 1
        return most

    def _in_flight(self, replicas: int) -> float | None:
        demand = self._demand
        if demand.concurrency is not None:
            return demand.concurrency
        if demand.users is not None:
            return replicas * self._users_in_flight(demand.users / replicas, demand.think_seconds)
        found = self._rate_in_flight(_requests_per_second(demand) / replicas)
        return None if found is None else replicas * found

    def _users_in_flight(self, users: float, think: float) -> float:
        """Of so many users of one replica those that wait for an answer."""

        def too_few(at_once: float) -> bool:
            seconds = self.seconds(at_once)
            return at_once < users * seconds / (seconds + think)

        return _halve(too_few, 0.0, users)

    def _rate_in_flight(self, rate: float) -> float | None:
        """Requests in flight of one replica that finish at this rate, a second (Little's law)."""
        most = self._holds
        if most / self.seconds(most) < rate:
            return None
        return _halve(lambda at_once: at_once / self.seconds(at_once) < rate, 0.0, most)


def _requests_per_second(demand: Demand) -> float:
    """The larger of the two limits, when both are given."""
    per_minute = demand.requests_per_minute or 0.0
    if demand.tokens_per_minute:
        by_tokens = demand.tokens_per_minute / (demand.input_tokens + demand.output_tokens)
        per_minute = max(per_minute, by_tokens)
    return per_minute / 60


def _halve(too_few: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number between that is not too few."""
    while high - low > _AGREES * high:
        middle = (low + high) / 2
        low, high = (middle, high) if too_few(middle) else (low, middle)
    return high


def deployment_of(wanted: Wanted, fit: Fit) -> Deployment:
    split = fit.engine.split
    deployment = Deployment(
        model=wanted.model,
        gpu=fit.gpu,
        weights=fit.engine.weights,
        kv_dtype="fp8" if fit.engine.kv_dtype == "fp8" else "bf16",
        tensor_parallel=split.tensor_parallel,
        pipeline_parallel=split.pipeline_parallel,
        speculation=_speculation(wanted, fit),
        kv_budget_tokens=fit.kv_tokens,
        max_num_seqs=fit.sequences,
        max_num_batched_tokens=fit.engine.batched_tokens,
    )
    return dataclasses.replace(deployment, factors=_factors(wanted.pool.calibration, deployment))


def _factors(calibration: Calibration | None, deployment: Deployment) -> Factors:
    """The stack file's, where this is the deployment that was measured."""
    if calibration is None or calibration.deployment != deployment.name:
        return Factors()
    return Factors(
        step=calibration.step,
        prefill=calibration.prefill,
        request=calibration.request,
        measured=calibration.measured,
    )


def _speculation(wanted: Wanted, fit: Fit) -> Speculation:
    """The stack file's acceptance; the time that guessing takes by reading the draft's weights."""
    options, demand = wanted.pool.engine.speculation, wanted.pool.demand
    if options is None or demand is None:
        return Speculation()
    seconds = 0.0
    if not isinstance(options, NgramSpeculation):
        # A draft model and an EAGLE head run once a guess; each run reads their weights.
        reads = fit.engine.draft_bytes / fit.engine.split.tensor_parallel
        seconds = options.num_speculative_tokens * reads / (fit.gpu.bandwidth_gbps * 1e9)
    accepted = min(demand.accepted_tokens, float(options.num_speculative_tokens))
    return Speculation(
        tokens_per_step=1.0 + accepted,
        draft_tokens=options.num_speculative_tokens,
        draft_seconds=seconds,
    )
