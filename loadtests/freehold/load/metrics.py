"""The figures of `vllm bench serve`, by its own definitions, from recorded requests.

Definitions: vllm/benchmarks/serve.py, `calculate_metrics` (0.32 and 0.33 agree on these; they differ
in which event is an output: events.py). A golden test holds the two equal on the same requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .record import RequestRecord

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Spread:
    """One latency over many requests, in milliseconds."""

    mean: float
    median: float
    std: float
    percentiles: dict[int, float]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Zeros when there is nothing to measure, as vLLM's tool has it."""
        values = np.asarray(seconds if len(seconds) else [0.0]) * 1000
        return cls(
            mean=float(values.mean()),
            median=float(np.median(values)),
            std=float(values.std()),
            percentiles={p: float(np.percentile(values, p)) for p in PERCENTILES},
        )


@dataclass(frozen=True)
class Metrics:
    """The seven metrics and what stands beside them. Throughputs are per second of `duration`."""

    duration: float
    completed: int
    failed: int
    cancelled: int
    total_input_tokens: int
    total_output_tokens: int
    request_throughput: float
    output_throughput: float
    total_token_throughput: float
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2el: Spread
    max_concurrent_requests: int
    """The true peak: the most requests that were in flight at one instant."""
    vllm_max_concurrent_requests: int
    """vLLM's figure: requests are counted in every whole second they touch, so it reads high."""
    max_output_tokens_per_s: float
    """Most output events in one second, as vLLM counts them: events, not tokens."""
    e2el_from_intended: Spread | None = None
    dispatch_delay: Spread | None = None
    error_kinds: dict[str, int] = field(default_factory=dict)

    def as_vllm(self) -> dict[str, Any]:
        """With the keys of vLLM's result file."""
        keys: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "duration",
                "completed",
                "failed",
                "cancelled",
                "total_input_tokens",
                "total_output_tokens",
                "request_throughput",
                "output_throughput",
                "total_token_throughput",
                "max_concurrent_requests",
                "vllm_max_concurrent_requests",
                "max_output_tokens_per_s",
                "error_kinds",
            )
        }
        spreads = {"ttft": self.ttft, "tpot": self.tpot, "itl": self.itl, "e2el": self.e2el}
        spreads |= (
            {"e2el_from_intended": self.e2el_from_intended} if self.e2el_from_intended else {}
        )
        spreads |= {"dispatch_delay": self.dispatch_delay} if self.dispatch_delay else {}
        for name, spread in spreads.items():
            keys[f"mean_{name}_ms"] = spread.mean
            keys[f"median_{name}_ms"] = spread.median
            keys[f"std_{name}_ms"] = spread.std
            keys |= {f"p{p}_{name}_ms": value for p, value in spread.percentiles.items()}
        return keys


def measure(requests: Iterable[RequestRecord], duration: float | None = None) -> Metrics:
    """All figures over some requests; warm-up requests among them are left out.

    `duration`: seconds from just before the first dispatch until the last request has ended, which is
    also what is taken when it is left out. It includes the ramp-up and the drain, as in vLLM's tool.
    """
    counted = [record for record in requests if not record.warmup]
    good = [record for record in counted if record.ok and record.latency is not None]
    failed = [record for record in counted if record.error_kind is not None]
    if duration is None:
        duration = span(counted)
    tokens_in = sum(record.prompt_tokens or record.asked_input or 0 for record in good)
    tokens_out = sum(_output_tokens(record) for record in good)
    per_second = max(duration, 1e-9)
    intended = [r for r in good if r.intended is not None]
    return Metrics(
        duration=duration,
        completed=len(good),
        failed=len(failed),
        cancelled=sum(record.cancelled for record in counted),
        total_input_tokens=tokens_in,
        total_output_tokens=tokens_out,
        request_throughput=len(good) / per_second,
        output_throughput=tokens_out / per_second,
        total_token_throughput=(tokens_in + tokens_out) / per_second,
        ttft=Spread.of([r.ttft for r in good if r.ttft is not None]),
        tpot=Spread.of([tpot for r in good if (tpot := r.tpot) is not None]),
        itl=Spread.of([itl for r in good for itl in r.itls]),
        e2el=Spread.of([r.latency for r in good if r.latency is not None]),
        max_concurrent_requests=peak_in_flight(counted),
        vllm_max_concurrent_requests=_by_second(good)[1],
        max_output_tokens_per_s=_by_second(good)[0],
        e2el_from_intended=Spread.of([r.ended - (r.intended or 0.0) for r in intended])
        if intended
        else None,
        dispatch_delay=Spread.of([r.dispatch_delay or 0.0 for r in intended]) if intended else None,
        error_kinds=_kinds(failed),
    )


def span(requests: Sequence[RequestRecord]) -> float:
    """Seconds from the first start to the last end."""
    if not requests:
        return 0.0
    return max(r.ended for r in requests) - min(r.started for r in requests)


def peak_in_flight(requests: Iterable[RequestRecord]) -> int:
    """The most requests open at one instant, by a sweep over their starts and ends."""
    _, levels = in_flight(requests)
    return int(levels.max()) if len(levels) else 0


def in_flight(requests: Iterable[RequestRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Times at which the number of open requests changes, and that number from then on.

    An end and a start at the same instant do not overlap: the end comes first.
    """
    edges = [(r.started, 1) for r in requests] + [(r.ended, -1) for r in requests]
    if not edges:
        return np.empty(0), np.empty(0)
    edges.sort()  # -1 sorts before 1
    return np.array([at for at, _ in edges]), np.cumsum([change for _, change in edges])


def output_times(record: RequestRecord) -> np.ndarray:
    """When each output event of a request arrived."""
    first = record.started + (record.ttft or 0.0)
    return first + np.concatenate(([0.0], np.cumsum(record.itls)))


def steady(requests: Sequence[RequestRecord], begin: float, end: float) -> dict[str, float]:
    """Rates within a window: tokens and completions that fell into it, whoever they belong to.

    A request's output tokens are spread evenly over its output events (one event may carry several);
    its prompt counts when the first token comes: then it has been read.
    """
    seconds = max(end - begin, 1e-9)
    output = prompt = 0.0
    done = 0
    for record in requests:
        if record.error_kind is not None or record.latency is None:
            continue
        done += record.ok and begin <= record.ended < end
        times = output_times(record)
        inside = ((times >= begin) & (times < end)).sum()
        output += _output_tokens(record) * inside / len(times)
        if begin <= times[0] < end:
            prompt += record.prompt_tokens or record.asked_input or 0
    return {
        "seconds": seconds,
        "request_throughput": done / seconds,
        "output_throughput": output / seconds,
        "total_token_throughput": (output + prompt) / seconds,
    }


def _output_tokens(record: RequestRecord) -> int:
    """The server's count. A server that sends none leaves the events, which may hold several tokens;
    an answer that is not streamed text (embeddings) has no output tokens at all."""
    if record.output_tokens is not None:
        return record.output_tokens
    return 0 if record.ttft is None else len(record.itls) + 1


def _by_second(good: Sequence[RequestRecord]) -> tuple[float, int]:
    """vLLM's two per-second figures: peak output events, and requests touching one second."""
    if not good:
        return 0.0, 0
    origin = min(r.started for r in good)
    seconds = int(np.ceil(max(r.ended for r in good) - origin)) + 1
    events, open_requests = np.zeros(seconds), np.zeros(seconds)
    for record in good:
        buckets = (output_times(record) - origin).astype(int)
        np.add.at(events, buckets[(buckets >= 0) & (buckets < seconds)], 1)
        open_requests[int(record.started - origin) : int(record.ended - origin) + 1] += 1
    return float(events.max()), int(open_requests.max())


def _kinds(failed: Iterable[RequestRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in failed:
        counts[record.error_kind or ""] = counts.get(record.error_kind or "", 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
