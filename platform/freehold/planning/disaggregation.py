"""Prefill and decode apart: how many workers of each kind, what a prompt's KV cache costs to move, and
how fast the pair is.

A queueing model on top of the latency model, which knows each part alone: a prefill worker reads one
prompt at a time (M/D/1), the KV cache crosses one link at a time (M/D/1 again), and decode workers run
steps that no prefill lengthens. Nobody has measured such a pair for the catalog, and the basis says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from freehold.config.demand import Objectives

from .forecast import Forecast, Forecaster
from .sizing import Fit, Wanted
from .speed import Deployment, Load, Prediction, predict
from .speed.work import kv_bytes_per_token

# One TCP connection between EC2 instances that share no placement group (AWS, "Amazon EC2 instance
# network bandwidth", read 2026-11-24). NIXL's UCX opens one for each pair of ranks.
TCP_FLOW_GBPS = 5.0
# Near saturation a queue grows without bound: the balance is found finely, which costs arithmetic alone.
_AGREES = 1e-4


@dataclass(frozen=True)
class Transfer:
    """The way of one prompt's KV cache from a prefill worker to a decode worker."""

    gigabytes: float
    gbps: float
    """Gbit/s."""
    measured: bool
    """The stack file says the speed; else it is TCP as EC2 limits it."""

    @property
    def seconds(self) -> float:
        """With the link to itself."""
        return self.gigabytes * 8 / self.gbps


@dataclass(frozen=True)
class Parts:
    """Workers of each kind."""

    prefill: int
    decode: int


def transfer_of(
    wanted: Wanted, deployment: Deployment, network_gbps: float, a_node: int
) -> Transfer:
    """`network_gbps` is a node's, shared by the `a_node` replicas on it. Every prompt is moved whole:
    the router sends no conversation back to the worker that knows it."""
    pool = wanted.pool
    assert pool.demand is not None and pool.disaggregated is not None
    # Each rank fetches what it keeps; of a latent every rank keeps a copy.
    each = kv_bytes_per_token(deployment) * deployment.tensor_parallel
    said = pool.disaggregated.link_gbps
    flows = TCP_FLOW_GBPS * deployment.tensor_parallel
    return Transfer(
        gigabytes=pool.demand.input_tokens * each / 1e9,
        gbps=said or min(flows, network_gbps / a_node),
        measured=said is not None,
    )


class DisaggregatedForecaster(Forecaster):
    """A pool taken apart, at any number of workers: the best division of them that may be."""

    def __init__(self, wanted: Wanted, fit: Fit, transfer: Transfer, *, ha: bool) -> None:
        super().__init__(wanted, fit)
        assert wanted.pool.disaggregated is not None
        self._wanted, self._pinned = wanted, wanted.pool.disaggregated
        self._least = 2 if ha else 1
        self._alone = _Alone(self._deployment, self._demand_load())
        self.transfer = transfer

    def _demand_load(self) -> Load:
        demand = self._demand
        return Load(demand.input_tokens, demand.output_tokens, 1.0, demand.prefix_hit_rate)

    def at(self, replicas: int) -> Forecast | None:
        forecasts = [self._pair(parts).forecast() for parts in self._divisions(replicas)]
        return min(
            (forecast for forecast in forecasts if forecast),
            key=lambda forecast: _worth(forecast, self._wanted.pool.objectives),
            default=None,
        )

    def _divisions(self, replicas: int) -> list[Parts]:
        pin = self._pinned
        return [
            Parts(prefill, replicas - prefill)
            for prefill in range(self._least, replicas - self._least + 1)
            if pin.prefill_replicas in (None, prefill)
            and pin.decode_replicas in (None, replicas - prefill)
        ]

    def _pair(self, parts: Parts) -> _Pair:
        return _Pair(self._wanted, self._fit, self._alone, parts, self.transfer)


def _worth(forecast: Forecast, asked: Objectives) -> tuple[int, float]:
    """Objectives missed, then how long a request takes: smaller is better."""
    limits = (
        (forecast.median_ttft_ms, asked.median_ttft_ms),
        (forecast.median_tpot_ms, asked.median_tpot_ms),
    )
    missed = sum(limit is not None and value > limit for value, limit in limits)
    return missed, forecast.concurrency / forecast.request_throughput


class _Alone:
    """Each part by itself: the same for every division, so it is computed once."""

    def __init__(self, deployment: Deployment, load: Load) -> None:
        self._deployment, self._load = deployment, load
        self._known: dict[int, Prediction] = {}

    @cached_property
    def read(self) -> Prediction:
        """A prefill worker with one prompt."""
        return predict(self._deployment, replace(self._load, output_tokens=1.0))

    def write(self, sequences: float) -> Prediction:
        """A decode worker with so many sequences, whose prompts have come: one token is left to compute."""
        whole = max(1, round(sequences))
        if whole not in self._known:
            came = 1 - 1 / max(2.0, self._load.input_tokens)
            load = replace(self._load, concurrency=float(whole), prefix_hit_rate=came)
            self._known[whole] = predict(self._deployment, load)
        return self._known[whole]


class _Pair(Forecaster):
    """One division. To what it inherits it is a single large replica."""

    def __init__(
        self, wanted: Wanted, fit: Fit, alone: _Alone, parts: Parts, transfer: Transfer
    ) -> None:
        super().__init__(wanted, fit)
        self._alone, self._parts, self._transfer = alone, parts, transfer
        self._holds = float(parts.decode * fit.at_typical_length)

    def forecast(self) -> Forecast | None:
        found = super().at(1)
        return replace(found, parts=self._parts) if found else None

    def _replica(self, concurrency: float) -> Prediction:
        """With so many requests in flight anywhere. Those that are being written set the pace."""
        at = max(1.0, concurrency)
        if at in self._known:
            return self._known[at]
        # Each finds the others in the queues, not itself.
        others = (at - 1) / at
        writing = _largest(lambda n: self._in_all(n, others) <= at, at)
        one, rate = self._alone.write(writing / self._parts.decode), self._rate(writing)
        output = self._demand.output_tokens
        self._known[at] = replace(
            one,
            concurrency=at,
            median_ttft_ms=1e3
            * (at - writing)
            / rate,  # Little's law: those that are not written yet
            output_throughput=rate * output,
            total_token_throughput=rate * (self._demand.input_tokens + output),
            request_throughput=rate,
            max_concurrent_requests=at,
            basis=f"prefill and decode apart by a queueing model, not measured; each part: {one.basis}",
            ttft_band=self._alone.read.ttft_band,
        )
        return self._known[at]

    def _rate(self, writing: float) -> float:
        """Requests a second while so many answers are written."""
        token = self._alone.write(writing / self._parts.decode).median_tpot_ms / 1e3
        return writing / (max(1, self._demand.output_tokens - 1) * token)

    def _in_all(self, writing: float, others: float) -> float:
        """Requests in flight while so many answers are written: those, and all before their first token."""
        rate, parts = self._rate(writing), self._parts
        token = self._alone.write(writing / parts.decode).median_tpot_ms / 1e3
        reading = _queue(self._alone.read.median_ttft_ms / 1e3, rate / parts.prefill, others)
        moving = _queue(self._transfer.seconds, rate / min(parts.prefill, parts.decode), others)
        return writing + rate * (reading + moving + token)


def _queue(service: float, rate: float, others: float) -> float:
    """Mean seconds in an M/D/1 queue, served included, where `others` is the share of the rate that is
    not one's own; infinite where it never empties."""
    if rate * service >= 1:
        return math.inf
    busy = rate * service * others
    return service * (1 + busy / (2 * (1 - busy)))


def _largest(holds: Callable[[float], bool], most: float) -> float:
    low, high = 0.0, most
    while high - low > _AGREES * high:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
