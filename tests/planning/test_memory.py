"""Memory: what was published and measured elsewhere is met; the properties hold for anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.catalog.gpus import load_gpus
from freehold.catalog.models import AttentionGroup, ModelSpec, load_models
from freehold.planning.memory import (
    GIB,
    Engine,
    Split,
    concurrency,
    engine_memory,
    kv_bytes,
    needed_gib,
    weight_bytes,
)
from freehold.planning.sizing import tensor_parallel_problem

MODELS = load_models()
GPUS = load_gpus()
GENERATING = [name for name, model in MODELS.items() if model.role == "generate"]


def engine(
    model: str | ModelSpec, weights: str = "bf16", tp: int = 1, pp: int = 1, **more: object
) -> Engine:
    spec = MODELS[model] if isinstance(model, str) else model
    defaults = {"kv_dtype": "bf16", "context": 8192, "batched_tokens": 2048}
    return Engine(spec, weights, Split(tp, pp), **{**defaults, **more})  # type: ignore[arg-type]


def kv_tokens(model: str, weights: str, gpu: str, tp: int = 1, kv_dtype: str = "bf16") -> float:
    one = engine(model, weights, tp, kv_dtype=kv_dtype)
    return concurrency(one, engine_memory(one, GPUS[gpu]).kv_cache, 1000) * 1000


@pytest.mark.parametrize(
    ("model", "kib"),
    # 2 x layers x KV heads x head dimension x 2 bytes, from each model's config.json; gpt-oss counts
    # its full-attention half only; DeepSeek keeps a latent of 512 + 64 a layer.
    [("llama-3.1-8b", 128), ("llama-3.3-70b", 320), ("qwen2.5-7b", 56), ("deepseek-r1", 68.6)],
)
def test_kv_bytes_a_token(model: str, kib: float) -> None:
    step = kv_bytes(engine(model), 1600) - kv_bytes(engine(model), 800)
    assert step / 800 / 1024 == pytest.approx(kib, abs=0.1)


def test_tensor_parallel_divides_heads_but_never_a_latent() -> None:
    assert kv_bytes(engine("llama-3.3-70b", tp=4), 4096) * 4 == kv_bytes(
        engine("llama-3.3-70b"), 4096
    )
    assert kv_bytes(engine("deepseek-r1", "fp8", tp=8), 4096) == kv_bytes(
        engine("deepseek-r1", "fp8"), 4096
    )
    # Beyond the KV heads they are repeated: eight ranks hold as much as four would not.
    assert kv_bytes(engine("qwen2.5-7b", tp=4), 4096) == kv_bytes(engine("qwen2.5-7b", tp=8), 4096)


def test_a_window_stops_growing_and_full_attention_does_not() -> None:
    grown = [kv_bytes(engine("gpt-oss-20b"), tokens) for tokens in (4000, 8000, 16000)]
    # 12 full layers x 2 x 8 heads x 64 x 2 bytes.
    assert (grown[2] - grown[1]) / 8000 == pytest.approx(12 * 2 * 8 * 64 * 2, rel=0.01)
    assert grown[1] - grown[0] == pytest.approx((grown[2] - grown[1]) / 2, rel=0.01)


def test_linear_attention_keeps_a_state_whatever_the_context() -> None:
    hybrid = AttentionGroup("linear", 36, 0, 0, state_bytes=1_000_000)
    full = AttentionGroup("full", 12, 2, 256)
    base = MODELS["llama-3.1-8b"]
    model = ModelSpec(**{**base.__dict__, "attention": (hybrid, full)})
    short, long = (kv_bytes(engine(model), tokens) for tokens in (16, 16_000))
    assert long - short == (16_000 - 16) * 12 * 2 * 2 * 256 * 2
    assert short > 36 * 1_000_000


@pytest.mark.parametrize(
    ("model", "weights", "gpu", "ranks", "tokens"),
    # Worked out by hand from the same sizes with a reserve of a few GiB (facts on AWS GPUs,
    # 2026-11-23): a rough second opinion, so a tenth of slack.
    [
        ("llama-3.1-8b", "bf16", "L40S", 1, 182_000),
        ("llama-3.1-8b", "fp8", "L4", 1, 79_000),
        ("llama-3.3-70b", "fp8", "L40S", 4, 266_000),
        ("llama-3.3-70b", "fp8", "RTX PRO 6000", 2, 325_000),
    ],
)
def test_kv_tokens_that_others_worked_out(
    model: str, weights: str, gpu: str, ranks: int, tokens: float
) -> None:
    assert kv_tokens(model, weights, gpu, ranks) == pytest.approx(tokens, rel=0.1)


def test_an_fp8_cache_holds_twice_as_much() -> None:
    plain = kv_tokens("llama-3.1-8b", "fp8", "L4")
    assert kv_tokens("llama-3.1-8b", "fp8", "L4", kv_dtype="fp8") == pytest.approx(
        2 * plain, rel=0.01
    )


def test_deepseek_fits_eight_h200_and_not_eight_h100() -> None:
    eight = engine("deepseek-r1", "fp8", tp=8)
    left = engine_memory(eight, GPUS["H200"]).kv_cache * 8
    assert left == pytest.approx(373, rel=0.1)  # GiB, the same hand calculation
    assert engine_memory(eight, GPUS["H100"]).kv_cache == 0


@pytest.mark.parametrize(
    ("model", "ranks", "allowed"),
    [("llama-3.3-70b", 3, "1, 2, 4, 8, 16"), ("qwen2.5-7b", 8, "1, 2, 4")],
)
def test_ranks_that_do_not_divide_name_those_that_do(model: str, ranks: int, allowed: str) -> None:
    problem = tensor_parallel_problem(MODELS[model], ranks)
    assert problem and f"tensor_parallel {ranks} does not divide" in problem
    assert problem.endswith(allowed)


engines = st.builds(
    lambda name, tp, pp, kv, batched: engine(
        name,
        MODELS[name].native,
        tp,
        pp,
        kv_dtype=kv,
        batched_tokens=batched,
    ),
    st.sampled_from(GENERATING),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from(["bf16", "fp8"]),
    st.sampled_from([2048, 8192]),
)
tokens = st.integers(1, 300_000)


@given(engines, tokens, tokens, st.sampled_from(sorted(GPUS)))
def test_more_context_never_raises_concurrency(one: Engine, a: int, b: int, gpu: str) -> None:
    kv = engine_memory(one, GPUS[gpu]).kv_cache
    short, long = sorted((a, b))
    assert concurrency(one, kv, long) <= concurrency(one, kv, short)


@given(engines, st.sampled_from(sorted(GPUS)), st.floats(0.05, 0.99))
def test_what_vllm_will_allocate_is_never_more_than_its_share(
    one: Engine, gpu: str, share: float
) -> None:
    memory = engine_memory(one, GPUS[gpu], share)
    if memory.kv_cache > 0:
        assert memory.total <= memory.available + 1e-9
        assert memory.available <= GPUS[gpu].memory_mib / 1024


@given(engines, tokens)
def test_more_gpus_never_take_more_of_each(one: Engine, length: int) -> None:
    split = one.split
    wider = Engine(
        **{**one.__dict__, "split": Split(split.tensor_parallel * 2, split.pipeline_parallel)}
    )
    deeper = Engine(
        **{**one.__dict__, "split": Split(split.tensor_parallel, split.pipeline_parallel * 2)}
    )
    for other in (wider, deeper):
        assert weight_bytes(other) <= weight_bytes(one)
        assert kv_bytes(other, length) <= kv_bytes(one, length)


@given(engines, st.integers(1, 64), tokens)
def test_what_is_needed_is_what_fits(one: Engine, requests: int, length: int) -> None:
    """A GPU of exactly the needed size holds the requests (up to one block's rounding)."""
    need = needed_gib(one, requests, length)
    fixed = needed_gib(one, 0, length)
    assert concurrency(one, need - fixed, length) == pytest.approx(requests)
    assert need * GIB > weight_bytes(one)
