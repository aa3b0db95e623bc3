"""`predict` for the planner, `step_seconds` for the simulator: the same formulas and constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from . import seconds
from .closed_loop import Latency, admitted, closed_loop, latency
from .constants import Band, Constants, Effects, load_constants
from .deployment import Deployment, Load
from .rows import Row, loop_of
from .work import decode_work, prefill_work

FROM_PHYSICS = "from physics, not measured"


@dataclass(frozen=True)
class Prediction:
    """What a load test of this deployment would report; names as in `vllm bench serve`."""

    concurrency: float
    median_ttft_ms: float
    median_tpot_ms: float
    median_itl_ms: float
    output_throughput: float
    """Tokens a second."""
    total_token_throughput: float
    request_throughput: float
    max_concurrent_requests: float
    """Requests in flight as the clients see it, those that wait included."""
    admitted_requests: float
    """Requests that run at a time; infinite where nothing limits them."""
    basis: str
    """`measured: MODEL WEIGHTS on GPU`, or `from physics, not measured`."""
    ttft_band: tuple[float, float]
    """Factors on the median between which nine of ten measurements lie."""
    tpot_band: tuple[float, float]


def predict(d: Deployment, load: Load) -> Prediction:
    """Median latencies and throughput of one replica in a closed loop.

    More concurrency never lowers TTFT or TPOT, a longer prompt or answer never TTFT.
    """
    constants = load_constants()
    found = latency(constants.general, _effects(constants, d), closed_loop(d, load))
    ttft, tpot = float(found.ttft), float(found.tpot)
    output = max(1.0, load.output_tokens)
    requests = load.concurrency / (ttft + (output - 1) * tpot)
    basis, band = _basis(constants, d)
    return Prediction(
        concurrency=load.concurrency,
        median_ttft_ms=1e3 * ttft,
        median_tpot_ms=1e3 * tpot,
        median_itl_ms=1e3 * _median_step(d, load, found),
        output_throughput=requests * output,
        total_token_throughput=requests * (load.input_tokens + output),
        request_throughput=requests,
        max_concurrent_requests=load.concurrency,
        admitted_requests=admitted(d, load) * d.data_parallel,
        basis=basis,
        ttft_band=band.ttft,
        tpot_band=band.tpot,
    )


def predict_row(row: Row) -> tuple[float, float] | None:
    """(TTFT, TPOT) in ms of one row of a CSV; None where the catalog does not know it."""
    known = loop_of(row)
    if known is None:
        return None
    constants = load_constants()
    deployment, loop = known
    effects = constants.effects(deployment.model.name, deployment.gpu.name)
    found = latency(constants.general, effects, loop)
    return 1e3 * float(found.ttft), 1e3 * float(found.tpot)


def step_seconds(
    d: Deployment,
    *,
    decode_sequences: int,
    decode_context_tokens: int,
    prefill_tokens: int = 0,
    prefill_context_tokens: int = 0,
) -> float:
    """Seconds of one engine step: `decode_sequences` get a token, `prefill_tokens` are computed.

    `decode_context_tokens` are the KV tokens that the decoding sequences hold together;
    `prefill_context_tokens` those that the prompts under way already have. `predict`'s TPOT is the
    mean of these steps over a request. With pipeline stages, the time until the step's tokens are
    out.
    """
    constants = load_constants()
    c, e = constants.general, _effects(constants, d)
    stages = d.pipeline_parallel
    sequences, context = decode_sequences / stages, decode_context_tokens / stages
    mean = context / sequences if sequences else 0.0
    one = decode_work(d, 1.0, mean)
    total = float(seconds.decode_step(c, e, decode_work(d, sequences, context), one))
    total += d.speculation.draft_seconds
    if prefill_tokens:
        alone = seconds.prefill(c, e, prefill_work(d, prefill_tokens, prefill_context_tokens))
        total += float(seconds.added_by_prefill(c, e, alone, one))
    return total


def outside_steps_seconds(d: Deployment, *, input_tokens: float) -> float:
    """Seconds that a request spends before its first token beside the engine's steps.

    HTTP, tokenising, scheduling, the way of the first token out, and the part of its prefill that
    other sequences do not see: with it, a request on an idle engine takes `predict`'s TTFT.
    """
    constants = load_constants()
    c, e = constants.general, _effects(constants, d)
    loop = closed_loop(d, Load(input_tokens, 1.0, 1.0))
    found = latency(c, e, loop)
    in_steps = step_seconds(
        d, decode_sequences=0, decode_context_tokens=0, prefill_tokens=round(input_tokens)
    )
    return max(0.0, float(found.ttft) - in_steps)


def roofline_floor(d: Deployment, load: Load) -> float:
    """Seconds below which no token can come: reading weights and KV cache at full bandwidth."""
    work = decode_work(d, 1.0, load.input_tokens + load.output_tokens / 2)
    reads = work.dense_read + work.expert_read * work.expert_share + work.kv_read
    return reads / d.speculation.tokens_per_step


def _effects(constants: Constants, d: Deployment) -> Effects:
    """The model's, with this cluster's factors. Effects are logarithms, so factors add."""
    own, factors = constants.effects(d.model.name, d.gpu.name), d.factors
    return replace(
        own,
        decode=own.decode + math.log(factors.step),
        prefill=own.prefill + math.log(factors.prefill),
        first_token=own.first_token + math.log(factors.request),
    )


def _median_step(d: Deployment, load: Load, found: Latency) -> float:
    """Gap between two outputs: a plain step, unless most steps carry a prefill too."""
    prompt = load.input_tokens * (1 - load.prefix_hit_rate)
    chunks = max(1.0, prompt / d.max_num_batched_tokens)
    running = min(load.concurrency / d.data_parallel, admitted(d, load))
    steps = max(1.0, load.output_tokens) / d.speculation.tokens_per_step
    mixed = running * chunks / steps
    return float(found.decode_step if mixed < 0.5 else found.mean_step)


def _basis(constants: Constants, d: Deployment) -> tuple[str, Band]:
    """What the prediction rests on, and how far off such predictions are."""
    if d.factors.measured:
        return f"calibrated: {d.factors.measured}", constants.bands["measured"]
    name = f"{d.model.name} {d.weights} on {d.gpu.name}"
    if name in constants.measured:
        return f"measured: {name}", constants.bands["measured"]
    bands = []
    if d.model.name not in constants.measured_models():
        bands.append(constants.bands["new_model"])
    if d.gpu.name not in constants.measured_gpus() or not bands:
        bands.append(constants.bands["new_gpu"])
    return FROM_PHYSICS, Band(
        ttft=_widest([band.ttft for band in bands]), tpot=_widest([band.tpot for band in bands])
    )


def _widest(bands: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in bands), max(high for _, high in bands)
