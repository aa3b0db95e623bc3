"""GPU memory: what an engine keeps on each GPU, and how many requests that leaves room for.

vLLM takes `share` of the GPU's memory, loads the weights, measures the peak of its activations in a
dry run, and gives all the rest to the KV cache. The same sum is done here beforehand, for the
fullest GPU of a replica. Everything is GiB a GPU unless the name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from freehold.catalog.gpus import Gpu
from freehold.catalog.models import AttentionGroup, ModelSpec
from freehold.config.engine import EngineOptions, NgramSpeculation

GIB = 2**30

# vLLM's own default share; the rest is left for what it does not count (CUDA contexts, fragments).
DEFAULT_SHARE = 0.92
# CUDA counts less than nvidia-smi: 79.19 of 79.65 GiB on an H100 (llm-d-planner, 57 runs, 2026-04).
_CUDA_SEES = 79.19 / 79.65
# Tokens a KV-cache block, vLLM 0.32's default on CUDA.
BLOCK_TOKENS = 16

# Peak activations by family, GiB, measured on H100 with vLLM 0.19 at 8,192 batched tokens; the same
# at any tensor parallel and context (llm-d-planner vllm_memory_constants.json, 2026-04). Fewer
# batched tokens need less, which nobody measured: the full figure is kept.
_ACTIVATIONS = {
    "llama": 1.89,
    "qwen2.5": 2.25,
    "qwen3": 2.21,
    "mistral": 2.10,
    "mixtral": 1.21,
    "deepseek": 1.93,
    "gemma": 3.94,
    "gpt-oss": 2.87,
}
_ACTIVATIONS_DENSE, _ACTIVATIONS_MOE = 2.0, 2.5  # the same source's defaults
# What CUDA libraries and communication take beside PyTorch, measured in the same runs.
_LIBRARIES_ONE_GPU, _LIBRARIES_MORE_GPUS = 0.27, 2.1
# CUDA graphs, 0.51 to 1.85 in the same runs: the mean. The unused share holds the difference.
_CUDA_GRAPHS = 1.04


@dataclass(frozen=True)
class Split:
    """How one replica is spread over GPUs."""

    tensor_parallel: int = 1
    pipeline_parallel: int = 1

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel

    def __str__(self) -> str:
        parts = [
            f"{name}{ranks}"
            for name, ranks in (("TP", self.tensor_parallel), ("PP", self.pipeline_parallel))
            if ranks > 1
        ]
        return " x ".join(parts) or "1 GPU"


@dataclass(frozen=True)
class Engine:
    """What decides an engine's memory, but for the GPU."""

    model: ModelSpec
    weights: str
    """Quantization, as the catalog names it."""
    split: Split
    kv_dtype: str
    """`bf16` or `fp8`."""
    context: int
    batched_tokens: int
    eager: bool = False
    draft_bytes: float = 0.0
    """Weights of a draft model or head, all ranks together."""


@dataclass(frozen=True)
class Memory:
    """GiB on the fullest GPU of a replica. `kv_cache` is what vLLM will find left, in whole blocks."""

    weights: float
    activations: float
    overhead: float
    kv_cache: float
    available: float
    share: float

    @property
    def total(self) -> float:
        return self.weights + self.activations + self.overhead + self.kv_cache


def gpu_gib(gpu: Gpu) -> float:
    """What CUDA sees of a GPU's memory."""
    return gpu.memory_mib / 1024 * _CUDA_SEES


def engine_memory(engine: Engine, gpu: Gpu, share: float = DEFAULT_SHARE) -> Memory:
    """The budget on this GPU; `kv_cache` is 0 where the rest already takes all."""
    weights = weight_bytes(engine) / GIB
    activations = activation_gib(engine)
    overhead = overhead_gib(engine)
    available = gpu_gib(gpu) * share
    left = max(0.0, available - weights - activations - overhead)
    return Memory(
        weights=weights,
        activations=activations,
        overhead=overhead,
        kv_cache=_whole_blocks(left * GIB, engine) / GIB,
        available=available,
        share=share,
    )


def concurrency(engine: Engine, kv_gib: float, tokens: int) -> float:
    """Requests of `tokens` tokens each that a KV cache of this size holds at once; not rounded."""
    each = kv_bytes(engine, tokens)
    return kv_gib * GIB / each if each else math.inf


def needed_gib(engine: Engine, requests: float, tokens: int) -> float:
    """Memory that holds the engine and the KV cache of so many requests of so many tokens."""
    fixed = weight_bytes(engine) / GIB + activation_gib(engine) + overhead_gib(engine)
    return fixed + requests * kv_bytes(engine, tokens) / GIB


def weight_bytes(engine: Engine) -> float:
    """Weights on the fullest GPU: the stage with most layers, and half of the two embeddings."""
    model, split = engine.model, engine.split
    held = model.weights(engine.weights)
    layers = held.dense + held.experts
    if split.pipeline_parallel > 1:
        stage = math.ceil(model.layers / split.pipeline_parallel) / model.layers
        embedding = held.embedding * (1.0 if model.tied_embeddings else 0.5)
        layers, held_embedding = layers * stage, embedding
    else:
        held_embedding = held.embedding
    return (layers + held_embedding + engine.draft_bytes) / split.tensor_parallel


def activation_gib(engine: Engine) -> float:
    model = engine.model
    if model.role != "generate":
        # No samples to sort: the widest layer's inputs and outputs, 16 bits each.
        width = 4 * model.hidden + 3 * (model.intermediate or 4 * model.hidden)
        return 2 * engine.batched_tokens * width / GIB
    for family, gib in _ACTIVATIONS.items():
        if model.name.startswith(family):
            return gib
    return _ACTIVATIONS_MOE if model.moe else _ACTIVATIONS_DENSE


def overhead_gib(engine: Engine) -> float:
    """CUDA libraries, communication buffers, CUDA graphs."""
    libraries = _LIBRARIES_ONE_GPU if engine.split.gpus == 1 else _LIBRARIES_MORE_GPUS
    graphs = 0.0 if engine.eager or engine.model.role != "generate" else _CUDA_GRAPHS
    return libraries + graphs


def keeps_kv(model: ModelSpec) -> bool:
    """Encoders of BERT's kind see the whole text at once and keep nothing."""
    return model.role == "generate" or model.gated_mlp


def kv_bytes(engine: Engine, tokens: int) -> float:
    """Bytes on the fullest GPU that one request of `tokens` tokens holds, in whole blocks."""
    if not keeps_kv(engine.model):
        return 0.0
    share = _stage_share(engine)
    return sum(_group_bytes(engine, group, tokens) * share for group in engine.model.attention)


def _stage_share(engine: Engine) -> float:
    stages, layers = engine.split.pipeline_parallel, engine.model.layers
    return math.ceil(layers / stages) / layers


def _group_bytes(engine: Engine, group: AttentionGroup, tokens: int) -> float:
    if group.kind == "linear":
        return group.layers * (group.state_bytes or 0) / engine.split.tensor_parallel
    kept = tokens
    if group.kind == "sliding" and group.window:
        # While a prompt is read the window reaches back from each of its tokens (vLLM 0.32,
        # SlidingWindowSpec.max_memory_usage_bytes); one more block, because it starts anywhere.
        kept = min(tokens, group.window - 1 + engine.batched_tokens + BLOCK_TOKENS)
    blocks = math.ceil(kept / BLOCK_TOKENS)
    return group.layers * blocks * BLOCK_TOKENS * _token_bytes(engine, group)


def _token_bytes(engine: Engine, group: AttentionGroup) -> float:
    """Bytes of one token in one layer on one rank."""
    width = 1 if engine.kv_dtype == "fp8" else 2
    if group.kind == "mla":  # the latent is whole on every rank
        return ((group.kv_lora_rank or 0) + (group.rope_head_dim or 0)) * width
    heads = max(1, math.ceil(group.kv_heads / engine.split.tensor_parallel))
    return 2 * heads * group.head_dim * width


def _whole_blocks(left: float, engine: Engine) -> float:
    """vLLM divides what is left into blocks over all layers; the remainder stays unused."""
    block = kv_bytes(engine, BLOCK_TOKENS)
    return math.floor(left / block) * block if block else 0.0


def draft_bytes(model: ModelSpec, options: EngineOptions, draft: ModelSpec | None) -> float:
    """Weights that speculative decoding adds, 16 bits each unless it is the model's own layer.

    An EAGLE-3 head is one layer of the model, the reduction of three hidden states to one, and an
    output layer over 32,000 tokens (vLLM's llama_eagle3.py; the size of the published heads). MTP
    is one more layer of the model, in its own quantization.
    """
    speculation = options.speculation
    if speculation is None or isinstance(speculation, NgramSpeculation):
        return 0.0
    layer = (model.parameters - model.embedding_parameters) / model.layers
    if speculation.method == "mtp":
        return model.weights(model.native).total / model.parameters * layer
    if speculation.method == "eagle3":
        dense_layer = 4 * model.hidden**2 + 3 * model.hidden * (model.intermediate or model.hidden)
        return 2.0 * (dense_layer + 3 * model.hidden**2 + 32_000 * model.hidden)
    return draft.weights(draft.native).total if draft else 0.0
