"""From the merged records of a run to everything that the report says."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from freehold.catalog.release import load_release

from . import selfcheck, server_side, verdict
from .metrics import in_flight, measure, output_times, steady
from .reason import reason
from .record import Recording, RequestRecord
from .test import LoadTest
from .traffic import Traffic

# Inter-token gaps kept in report.json at most; requests.csv and the records have no more of them.
_ITLS_KEPT = 200_000
# A window between the first and the last start that is shorter than this share of the run says nothing.
_WINDOW_SHARE = 0.2
# Throughput against concurrency: a level that adds less than this of what the first one gave per
# request in flight is beyond the knee.
_KNEE_GAIN = 0.3
SIDE_CALLS = ("embed", "rerank")


@dataclass(frozen=True)
class Context:
    """What a report needs beside the records."""

    test: LoadTest
    promise: verdict.Promise = field(default_factory=verdict.Promise)
    series: Sequence[server_side.Series] = ()
    baseline: Mapping[str, Any] | None = None
    interrupted: str | None = None
    """Why the run ended early, when the generator could not say so itself."""
    spoilt: str | None = None
    """Why the figures mean nothing, when only whoever ran the stack could see it."""


@dataclass(frozen=True)
class Analysis:
    report: dict[str, Any]
    counted: list[RequestRecord]
    """The requests that the figures are about."""
    valid: bool
    met: bool

    @property
    def exit_code(self) -> int:
        return 3 if not self.valid else 0 if self.met else 1


def analyse(recording: Recording, context: Context) -> Analysis:
    """All figures, the validity and the verdict of a run."""
    assign_stages(recording)
    for why in (context.interrupted, context.spoilt):
        if why:
            recording.notes.append({"aborted": why})
    facts = _noted(recording, "traffic")
    traffic = Traffic.model_validate(facts["traffic"]) if facts else context.test.traffic
    main = traffic is None or traffic.kind not in SIDE_CALLS
    requests = main_requests(recording.requests) if main else list(recording.requests)
    counted = [record for record in requests if not record.warmup]
    metrics = measure(counted)
    test, series = context.test, context.series
    server = server_side.summary(series)
    validity = selfcheck.judge(
        recording,
        counted,
        metrics,
        exact_lengths=bool(facts.get("exact_lengths", True)),
        cache_hit_share=server["cache_hit_share"],
        open_loop_rate=test.stages[-1].rate if test.open_loop else None,
    )
    window = steady_window(counted)
    rates = steady(requests, *window)
    judged = _judged(context, requests, counted)
    seconds = by_second(counted, window)
    report = {
        **_head(test, counted),
        **metrics.as_vllm(),
        **_detailed(counted),
        "output_tokens_by_second": seconds,
        "valid": validity.ok,
        "invalid_reasons": list(validity.reasons),
        "generator": dict(validity.facts),
        "steady": rates,
        "sustained": {
            "requests_per_minute": rates["request_throughput"] * 60,
            "tokens_per_minute": rates["total_token_throughput"] * 60,
        },
        "stages": stages_of(recording, requests),
        "saturation": _noted(recording, "saturation").get("saturation"),
        "side_calls": side_calls(recording.requests) if main else {},
        "traffic": traffic.model_dump(mode="json") if traffic else None,
        "server": server,
        "cost": _cost(context.promise.usd_per_hour, rates),
        "promise": context.promise.as_json(),
    }
    report["knee"] = knee(report["stages"])
    checks = list(judged.checks)
    for name, side in report["side_calls"].items():
        checks.append(verdict.lookups(name, side["completed"], side["failed"]))
    if context.baseline is not None:
        checks += verdict.against_baseline(report, context.baseline)
    judged = verdict.Verdict(tuple(checks), judged.notes)
    judged = replace(judged, reason=reason(context.promise, judged.missed, series))
    report["verdict"] = judged.as_json()
    return Analysis(report, counted, validity.ok, judged.met)


def _judged(
    context: Context,
    requests: Sequence[RequestRecord],
    counted: Sequence[RequestRecord],
) -> verdict.Verdict:
    """Of several levels the one that the plan is about is held against it."""
    promise, notes = context.promise, ()
    stages = [stage for stage in context.test.stages if stage.measured]
    planned = verdict.planned(promise, stages)
    stage = stages[0] if len(stages) == 1 and not context.test.trace else None
    if len(stages) > 1 and len(planned) == 1:
        stage = planned[0]
        own = [record for record in counted if record.stage == stage.name]
        if not own and counted:
            return verdict.not_reached(stage, counted[-1].stage or "")
        counted = own
        notes = (f"held against the plan: stage {stage.name}, which has its load",)
    metrics = measure(counted)
    if len(stages) > 1 and promise.predicted and not planned:
        note = "not held against the plan: no stage has its load"
        return verdict.Verdict(tuple(verdict.failures(metrics)), (note,))
    rates = steady(requests, *steady_window(counted))
    found = verdict.judge(promise, metrics, rates, stage)
    return replace(found, notes=(*notes, *found.notes))


def main_requests(requests: Sequence[RequestRecord]) -> list[RequestRecord]:
    """Those that the figures are about: the look-ups before a question are counted apart."""
    return [record for record in requests if record.name not in SIDE_CALLS]


def assign_stages(recording: Recording) -> None:
    """A closed loop's requests belong to the stage in which they started."""
    starts = [stage.began for stage in recording.stages]
    for record in recording.requests:
        if record.stage is None and starts:
            place = max(0, int(np.searchsorted(starts, record.started, side="right")) - 1)
            stage = recording.stages[place]
            record.stage = stage.name
            record.warmup = record.warmup or not stage.measured
    if any("saturation" in note for note in recording.notes):
        # An open loop is told to end a second late: what it sent of the next level is no measurement.
        entered = {stage.name for stage in recording.stages}
        for record in recording.requests:
            record.warmup = record.warmup or record.stage not in entered


def steady_window(counted: Sequence[RequestRecord]) -> tuple[float, float]:
    """From the first to the last start: before it nothing measured runs, after it the load drains."""
    if not counted:
        return 0.0, 0.0
    begin, last = counted[0].started, counted[-1].started
    end = max(record.ended for record in counted)
    return (begin, last) if last - begin >= _WINDOW_SHARE * (end - begin) else (begin, end)


def by_second(counted: Sequence[RequestRecord], window: tuple[float, float]) -> list[float]:
    """Output tokens in each whole second of the window."""
    begin, end = window
    tokens = np.zeros(int(end - begin))
    for record in counted:
        if record.latency is None or record.ttft is None or record.error_kind:
            continue
        times = output_times(record)
        each = (record.output_tokens or len(times)) / len(times)
        places = np.floor(times - begin).astype(int)
        np.add.at(tokens, places[(places >= 0) & (places < len(tokens))], each)
    return tokens.tolist()


def stages_of(recording: Recording, requests: Sequence[RequestRecord]) -> list[dict[str, Any]]:
    """Each measured stage by itself, with the load that was really there."""
    found: list[dict[str, Any]] = []
    wanted = {stage.name: stage for stage in recording.stages}
    for name in dict.fromkeys(record.stage for record in requests if not record.warmup):
        own = [r for r in requests if r.stage == name and not r.warmup]
        metrics = measure(own)
        window = steady_window(own)
        stage = wanted.get(name or "")
        found.append(
            {
                "name": name or "all",
                "concurrency": stage.concurrency if stage else None,
                "rate": stage.rate if stage else None,
                "mean_concurrency": mean_in_flight(requests, *window),
                "steady": steady(requests, *window),
                **metrics.as_vllm(),
            }
        )
    return found


def mean_in_flight(requests: Sequence[RequestRecord], begin: float, end: float) -> float:
    """Requests open on average over a window."""
    if end <= begin:
        return 0.0
    inside = sum(max(0.0, min(r.ended, end) - max(r.started, begin)) for r in requests)
    return inside / (end - begin)


def knee(stages: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """The last level whose added requests in flight still paid off; None where all of them did, or
    with fewer than three."""
    points = sorted(
        (stage["mean_concurrency"], stage["steady"]["output_throughput"]) for stage in stages
    )
    points = [point for point in points if point[0] > 0]
    if len(points) < 3:
        return None
    first = points[0][1] / points[0][0]
    best = points[0]
    for before, after in itertools.pairwise(points):
        added = (after[1] - before[1]) / max(after[0] - before[0], 1e-9)
        if added < _KNEE_GAIN * first:
            return {"concurrency": best[0], "output_throughput": best[1]}
        best = after
    return None


def side_calls(requests: Sequence[RequestRecord]) -> dict[str, Any]:
    """The look-ups of retrieval traffic, by kind."""
    found: dict[str, Any] = {}
    for name in SIDE_CALLS:
        own = [record for record in requests if record.name == name]
        if own:
            metrics = measure(own)
            found[name] = {
                "completed": metrics.completed,
                "failed": metrics.failed,
                "median_e2el_ms": metrics.e2el.median,
                "p99_e2el_ms": metrics.e2el.percentiles[99],
            }
    return found


def load_over_time(requests: Sequence[RequestRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Requests in flight, with the time in seconds after the first start."""
    at, level = in_flight(requests)
    return (at - at[0] if len(at) else at), level


def _concurrency(test: LoadTest) -> float | None:
    measured = [stage.concurrency for stage in test.stages if stage.measured]
    known = [float(each) for each in measured if each is not None]
    return known[0] if len(set(known)) == 1 else None


def _head(test: LoadTest, counted: Sequence[RequestRecord]) -> dict[str, Any]:
    rate = next((stage.rate for stage in test.stages if stage.measured), None)
    started = counted[0].started if counted else time.time()
    return {
        "date": time.strftime("%Y%m%d-%H%M%S", time.localtime(started)),
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": test.stack or None,
        "model_id": test.model,
        "tokenizer_id": str(test.tokenizer) if test.tokenizer else None,
        "num_prompts": len(counted),
        "request_rate": rate if test.open_loop else "inf",
        "burstiness": test.burstiness,
        "max_concurrency": _concurrency(test),
        "base_url": test.base_url,
        "salt": test.salt,
        "release": {"vllm": load_release().vllm},
        "vllm_command": vllm_command(test, counted),
    }


def vllm_command(test: LoadTest, counted: Sequence[RequestRecord]) -> str:
    """The nearest `vllm bench serve`: the same lengths and load, with its random texts."""
    good = [r for r in counted if r.ok]
    inputs = [r.prompt_tokens or r.asked_input or 0 for r in good] or [0]
    outputs = [r.output_tokens or 0 for r in good] or [0]
    parts = [
        "vllm bench serve --backend openai-chat",
        f"--base-url {test.base_url} --endpoint /v1/chat/completions",
        f"--model {test.model} --tokenizer TOKENIZER --dataset-name random",
        f"--random-input-len {round(float(np.mean(inputs)))}",
        f"--random-output-len {round(float(np.mean(outputs)))}",
        *_ratio(test.traffic),
        f"--num-prompts {len(counted)} --ignore-eos",
    ]
    rate = next((stage.rate for stage in test.stages if stage.measured), None)
    concurrency = _concurrency(test)
    if test.open_loop and rate:
        parts.append(f"--request-rate {rate:g} --burstiness {test.burstiness:g}")
    elif concurrency:
        parts.append(f"--max-concurrency {concurrency:g}")
    return " ".join(parts)


def _ratio(traffic: Traffic | None) -> list[str]:
    spread = traffic.output_spread if traffic else 0.0
    return [f'--random-range-ratio \'{{"input": 0, "output": {spread:g}}}\''] if spread else []


def _detailed(counted: Sequence[RequestRecord]) -> dict[str, Any]:
    """One value a request, in the order of their starts, as vLLM's --save-detailed has them."""
    gaps = sum(len(record.itls) for record in counted)
    return {
        "input_lens": [r.prompt_tokens or r.asked_input or 0 for r in counted],
        "output_lens": [r.output_tokens or 0 for r in counted],
        "ttfts": [r.ttft for r in counted],
        "tpots": [r.tpot for r in counted],
        "latencies": [r.latency for r in counted],
        "start_times": [r.started for r in counted],
        "errors": [r.error or "" for r in counted],
        **({"itls": [r.itls for r in counted]} if gaps <= _ITLS_KEPT else {}),
    }


def _noted(recording: Recording, key: str) -> dict[str, Any]:
    return next((note for note in recording.notes if key in note), {})


def _cost(usd_per_hour: float | None, rates: Mapping[str, float]) -> dict[str, float] | None:
    """What the stack's hour costs over what it gave: at this load, not at its best."""
    if not usd_per_hour:
        return None
    per_hour = rates["output_throughput"] * 3600
    total = rates["total_token_throughput"] * 3600
    return {
        "usd_per_hour": usd_per_hour,
        "usd_per_million_output_tokens": usd_per_hour / per_hour * 1e6 if per_hour else 0.0,
        "usd_per_million_tokens": usd_per_hour / total * 1e6 if total else 0.0,
        "output_tokens_per_second_per_dollar_hour": rates["output_throughput"] / usd_per_hour,
    }
