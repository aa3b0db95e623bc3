"""What predictions must hold whatever the constants are, and what the shipped constants must reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from freehold.catalog.gpus import load_gpus
from freehold.catalog.models import load_models
from freehold.planning.speed import (
    FROM_PHYSICS,
    Deployment,
    Load,
    Speculation,
    outside_steps_seconds,
    predict,
    roofline_floor,
    step_seconds,
)
from freehold.planning.speed.work import kv_bytes_per_token

GENERATE = sorted(name for name, model in load_models().items() if model.role == "generate")


def deployment(model: str, gpu: str, weights: str = "", **settings: object) -> Deployment:
    spec = load_models()[model]
    known: dict[str, object] = {"kv_dtype": "bf16"} | settings
    return Deployment(spec, load_gpus()[gpu], weights or spec.native, **known)  # type: ignore[arg-type]


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    model = load_models()[draw(st.sampled_from(GENERATE))]
    return Deployment(
        model=model,
        gpu=load_gpus()[draw(st.sampled_from(sorted(load_gpus())))],
        weights=draw(st.sampled_from(["bf16", "fp8", "int4", model.native])),
        kv_dtype=draw(st.sampled_from(["bf16", "fp8"])),
        tensor_parallel=draw(st.sampled_from([1, 2, 4, 8])),
        pipeline_parallel=draw(st.sampled_from([1, 2, 4])),
        kv_budget_tokens=draw(st.none() | st.integers(1000, 2_000_000)),
        max_num_seqs=draw(st.none() | st.integers(1, 512)),
    )


@st.composite
def loads(draw: st.DrawFn) -> Load:
    return Load(
        input_tokens=draw(st.floats(1, 100_000)),
        output_tokens=draw(st.floats(1, 10_000)),
        concurrency=draw(st.floats(1, 1000)),
        prefix_hit_rate=draw(st.floats(0, 0.95)),
    )


GROW = st.floats(1.0, 20.0)


@given(d=deployments(), load=loads(), by=GROW)
def test_more_concurrency_never_lowers_latency(d: Deployment, load: Load, by: float) -> None:
    low = predict(d, load)
    high = predict(d, Load(**vars(load) | {"concurrency": load.concurrency * by}))
    assert high.median_ttft_ms >= low.median_ttft_ms * (1 - 1e-9)
    assert high.median_tpot_ms >= low.median_tpot_ms * (1 - 1e-9)


@given(d=deployments(), load=loads(), by=GROW)
def test_a_longer_prompt_never_lowers_latency(d: Deployment, load: Load, by: float) -> None:
    """TPOT only while nobody waits: then longer prompts do not push others out of the batch."""
    longer = Load(**vars(load) | {"input_tokens": load.input_tokens * by})
    low, high = predict(d, load), predict(d, longer)
    assume(load.concurrency <= high.admitted_requests)
    assert high.median_ttft_ms >= low.median_ttft_ms * (1 - 1e-9)
    assert high.median_tpot_ms >= low.median_tpot_ms * (1 - 1e-9)


@given(d=deployments(), load=loads(), by=GROW)
def test_a_longer_answer_never_lowers_time_to_first_token(
    d: Deployment, load: Load, by: float
) -> None:
    longer = Load(**vars(load) | {"output_tokens": load.output_tokens * by})
    low, high = predict(d, load), predict(d, longer)
    assume(load.concurrency <= high.admitted_requests)
    assert high.median_ttft_ms >= low.median_ttft_ms * (1 - 1e-9)


@given(d=deployments(), load=loads())
def test_predictions_are_finite_and_add_up(d: Deployment, load: Load) -> None:
    p = predict(d, load)
    for value in (p.median_ttft_ms, p.median_tpot_ms, p.median_itl_ms, p.request_throughput):
        assert 0 < value < math.inf
    assert p.output_throughput == pytest.approx(p.request_throughput * load.output_tokens)
    lifetime = p.median_ttft_ms + (load.output_tokens - 1) * p.median_tpot_ms
    assert p.request_throughput * lifetime / 1e3 == pytest.approx(load.concurrency)


@given(d=deployments(), load=loads())
def test_no_token_comes_faster_than_memory_allows(d: Deployment, load: Load) -> None:
    """Allowing for the fitted speed of single models, at most a third beyond the data sheet."""
    floor = roofline_floor(d, Load(load.input_tokens, load.output_tokens, 1))
    assert predict(d, load).median_tpot_ms >= 1e3 * floor * 0.7


@given(
    d=deployments(),
    sequences=st.integers(0, 256),
    context=st.integers(1, 20_000),
    chunk=st.integers(0, 8192),
    more=st.integers(0, 512),
)
def test_a_step_never_gets_shorter_with_more_work(
    d: Deployment, sequences: int, context: int, chunk: int, more: int
) -> None:
    def step(batch: int, tokens: int) -> float:
        return step_seconds(
            d,
            decode_sequences=batch,
            decode_context_tokens=batch * context,
            prefill_tokens=tokens,
        )

    here = step(sequences, chunk)
    assert here > 0
    assert step(sequences + more, chunk) >= here * (1 - 1e-9)
    assert step(sequences, chunk + more) >= here * (1 - 1e-9)


def test_tpot_is_the_mean_step_of_the_simulator() -> None:
    """16 requests of 1000+500 tokens: 500 steps in which 16 prompts are computed."""
    d = deployment("llama-3.3-70b", "H200", "fp8", kv_dtype="fp8", tensor_parallel=2)
    plain = step_seconds(d, decode_sequences=16, decode_context_tokens=16 * 1250)
    mixed = step_seconds(
        d, decode_sequences=16, decode_context_tokens=16 * 1250, prefill_tokens=1000
    )
    mean = (484 * plain + 16 * mixed) / 500
    found = predict(d, Load(1000, 500, 16)).median_tpot_ms
    assert found == pytest.approx(1e3 * mean, rel=0.01)


def test_a_request_on_an_idle_engine_takes_its_steps_and_what_lies_outside() -> None:
    d = deployment("qwen3-32b", "H100", tensor_parallel=2)
    inside = step_seconds(d, decode_sequences=0, decode_context_tokens=0, prefill_tokens=2000)
    outside = outside_steps_seconds(d, input_tokens=2000)
    found = predict(d, Load(2000, 1, 1)).median_ttft_ms
    assert found == pytest.approx(1e3 * (inside + outside), rel=0.01)


def test_tensor_parallel_over_pcie_loses_beyond_two_gpus() -> None:
    """The L40S trap: two gain over one, four lose to two; on NVLink four gain."""

    def rate(gpu: str, ranks: int) -> float:
        d = deployment("llama-3.1-8b", gpu, tensor_parallel=ranks)
        return predict(d, Load(1024, 256, 32)).output_throughput

    assert rate("L40S", 2) > rate("L40S", 1)
    assert rate("L40S", 4) < rate("L40S", 2)
    assert rate("H200", 4) > rate("H200", 2)


def test_pipeline_parallel_beats_tensor_parallel_over_pcie_for_long_prompts() -> None:
    load = Load(20_000, 512, 4)
    tensor = deployment("llama-3.3-70b", "L40S", "fp8", tensor_parallel=4)
    pipeline = deployment("llama-3.3-70b", "L40S", "fp8", tensor_parallel=2, pipeline_parallel=2)
    assert predict(pipeline, load).median_ttft_ms < predict(tensor, load).median_ttft_ms / 2


def test_requests_beyond_the_kv_cache_wait_whole_lifetimes() -> None:
    """64 requests where 32 fit wait about one lifetime of the others."""
    roomy = deployment("llama-3.3-70b", "H200", "fp8", kv_dtype="fp8")
    held = int(32 * (8192 + 0.6 * 1024))
    tight = deployment("llama-3.3-70b", "H200", "fp8", kv_dtype="fp8", kv_budget_tokens=held)
    load = Load(8192, 1024, 64)
    served = predict(tight, Load(8192, 1024, 32))
    lifetime = served.median_ttft_ms + 1024 * served.median_tpot_ms
    waiting = predict(tight, load).median_ttft_ms
    assert 0.5 * lifetime < waiting < 1.5 * lifetime
    assert predict(roomy, load).median_ttft_ms < waiting / 5
    assert predict(tight, load).admitted_requests == pytest.approx(32, rel=0.01)


def test_speculation_and_prefix_hits_are_explicit_factors() -> None:
    plain = deployment("llama-3.3-70b", "H200", "fp8", tensor_parallel=4)
    guessing = deployment(
        "llama-3.3-70b",
        "H200",
        "fp8",
        tensor_parallel=4,
        speculation=Speculation(tokens_per_step=2.0, draft_tokens=3),
    )
    alone = Load(1000, 1000, 1)
    base, faster = predict(plain, alone), predict(guessing, alone)
    assert base.median_tpot_ms / 2 < faster.median_tpot_ms < base.median_tpot_ms / 1.7
    cached = predict(plain, Load(8000, 500, 8, prefix_hit_rate=0.9))
    assert cached.median_ttft_ms < predict(plain, Load(8000, 500, 8)).median_ttft_ms / 3


def test_the_basis_and_its_band_say_what_was_measured() -> None:
    load = Load(1000, 500, 8)
    known = predict(deployment("llama-3.3-70b", "H200", "fp8"), load)
    assert known.basis == "measured: llama-3.3-70b fp8 on H200"
    new_gpu = predict(deployment("llama-3.3-70b", "L40S", "fp8", tensor_parallel=4), load)
    new_model = predict(deployment("qwen3-8b", "H100"), load)
    other_weights = predict(deployment("llama-3.3-70b", "H200", "int4"), load)
    for guess in (new_gpu, new_model, other_weights):
        assert guess.basis == FROM_PHYSICS
    for p in (known, new_gpu, new_model):
        for low, high in (p.ttft_band, p.tpot_band):
            assert 0.3 < low < 1 < high < 4
    width = np.ptp(np.log(new_model.tpot_band))
    assert width > np.ptp(np.log(known.tpot_band))


def test_latent_attention_is_on_every_rank_and_grouped_queries_are_shared() -> None:
    latent = [deployment("deepseek-r1", "H200", tensor_parallel=n) for n in (1, 8)]
    assert kv_bytes_per_token(latent[0]) == pytest.approx(61 * 576 * 2)
    assert kv_bytes_per_token(latent[1]) == pytest.approx(61 * 576 * 2)
    shared = [deployment("llama-3.3-70b", "H200", tensor_parallel=n) for n in (1, 8)]
    assert kv_bytes_per_token(shared[0]) == pytest.approx(320 * 1024)
    assert kv_bytes_per_token(shared[1]) == pytest.approx(40 * 1024)
