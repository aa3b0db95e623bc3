"""Settings against the model itself: how it splits, how long it reads, how it is quantized."""

from __future__ import annotations

from collections.abc import Iterator

from .model_facts import ModelFacts
from .settings import EngineSettings
from .vllm_facts import (
    CHECKPOINT_TAKES,
    FLOAT16_REFUSED,
    FLOAT32_QUANTIZATION,
    QUANTIZES_ON_LOAD,
)

# Tokens a KV block: the smallest unit of the attention kernels (get_supported_kernel_block_sizes of
# vllm/v1/attention/backends/flash_attn.py and cpu_attn.py).
_BLOCK_UNIT = {"cuda": 16, "cpu": 32}


def check_model(settings: EngineSettings, model: ModelFacts, *, on_cpu: bool) -> Iterator[str]:
    yield from _parallel(settings, model)
    yield from _length(settings, model)
    yield from _quantization(settings, model, on_cpu)
    yield from _dtype(settings, model)
    yield from _kv_cache(settings, model, on_cpu)
    yield from _batch(settings, model)


def _parallel(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    ranks, stages = settings.options.tensor_parallel, settings.options.pipeline_parallel
    if model.heads and model.heads % ranks:
        allowed = ", ".join(str(n) for n in divisors(model.heads))
        yield f"engine.tensor_parallel {ranks} does not divide {model.heads} attention heads: {allowed}"
    if model.layers and stages > model.layers:
        yield (
            f"engine.pipeline_parallel {stages} is more than the model's {model.layers} layers: "
            f"at most {model.layers}"
        )
    if model.is_encoder and stages > 1:
        yield (
            f"engine.pipeline_parallel {stages} is not supported for {model.architectures[0]}: 1"
        )


def divisors(heads: int) -> list[int]:
    """Tensor-parallel sizes up to 16, the largest that a stack file takes."""
    return [n for n in range(1, min(heads, 16) + 1) if heads % n == 0]


def _length(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    asked = settings.options.max_model_len
    if asked and model.longest and asked > model.longest:
        yield (
            f"engine.max_model_len {asked} is more than the {model.longest} positions of the model: "
            f"at most {model.longest}, unless its card says how to stretch it "
            "(engine.hf_overrides with rope_parameters and max_position_embeddings)"
        )


def _quantization(settings: EngineSettings, model: ModelFacts, on_cpu: bool) -> Iterator[str]:
    asked, comes = settings.options.quantization, model.quantization
    if asked is None or not model.config:
        return
    key = f'engine.quantization "{asked}"'
    if comes:
        takes = CHECKPOINT_TAKES.get(comes, (comes,)) if not on_cpu or comes != "awq" else (comes,)
        if asked not in takes:
            yield (
                f"{key} does not go with a checkpoint that comes quantized as {comes}: leave it out "
                f"(or {', '.join(takes)})"
            )
        return
    if asked not in QUANTIZES_ON_LOAD:
        yield (
            f"{key} needs a checkpoint that comes quantized so, and this one does not: name such a "
            f"checkpoint, or one that vLLM quantizes on load: {', '.join(sorted(QUANTIZES_ON_LOAD))}"
        )
    elif asked == "experts_int8" and not model.experts:
        yield (
            f"{key} quantizes experts alone, and the model has none: "
            "int8_per_channel_weight_only quantizes every layer"
        )
    elif on_cpu and asked == "fp8_per_tensor":
        yield f"{key} does not run on a CPU: int8_per_channel_weight_only does"


def _dtype(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    dtype, method = settings.options.dtype, settings.options.quantization or model.quantization
    if method is None:
        return
    wrong = (dtype == "float32" and method not in FLOAT32_QUANTIZATION) or (
        dtype == "float16" and model.quantization in FLOAT16_REFUSED
    )
    if wrong:
        yield f'engine.dtype "{dtype}" does not go with {method} weights: auto or bfloat16'


def _kv_cache(settings: EngineSettings, model: ModelFacts, on_cpu: bool) -> Iterator[str]:
    options = settings.options
    if options.memory_share is not None and options.kv_cache_gib is not None:
        yield (
            f"engine.kv_cache_gib {options.kv_cache_gib:g} and engine.memory_share "
            f"{options.memory_share:g} both size the KV cache, and vLLM would ignore the share: "
            "leave one out"
        )
    unit = _BLOCK_UNIT["cpu" if on_cpu else "cuda"]
    if options.block_size and options.block_size % unit:
        near = max(unit, round(options.block_size / unit) * unit)
        yield (
            f"engine.block_size {options.block_size} is no multiple of {unit}, the attention "
            f"kernels' unit: {near}"
        )
    if options.kv_cache_dtype == "fp8_ds_mla" and model.config and not model.is_sparse:
        yield (
            'engine.kv_cache_dtype "fp8_ds_mla" is the layout of sparse attention (DeepSeek-V3.2), '
            "which the model does not have: fp8"
        )
    if options.kv_cache_dtype == "fp8_e5m2" and model.quantization == "fp8":
        yield 'engine.kv_cache_dtype "fp8_e5m2" does not go with an fp8 checkpoint: fp8 or auto'


def _batch(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    options = settings.options
    tokens, sequences = options.max_num_batched_tokens, options.max_num_seqs
    if tokens and sequences and tokens < sequences:
        yield (
            f"engine.max_num_batched_tokens {tokens} is less than max_num_seqs {sequences}, so not "
            f"every sequence could take a step: {sequences} or more"
        )
    longest = options.max_model_len or model.longest
    if tokens and longest and model.is_encoder and tokens < longest:
        yield (
            f"engine.max_num_batched_tokens {tokens} is less than the {longest} tokens that an "
            f"encoder reads in one step: {longest} or more, or a smaller max_model_len"
        )
