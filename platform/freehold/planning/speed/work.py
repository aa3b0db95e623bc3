"""Physics of one engine step: bytes read, operations done, bytes sent, as seconds at full specification.

Nothing here is fitted. Every figure follows from the model's architecture, the deployment and the
GPU's data sheet; `seconds.py` divides it by fitted efficiencies. All are for one rank, the slowest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from freehold.catalog.gpus import Gpu
from freehold.catalog.models import AttentionGroup, ModelSpec

from .deployment import Deployment


@dataclass(frozen=True)
class DecodeWork:
    """A step in which every sequence gets its next token. Fields in seconds unless they say else."""

    dense_read: float
    """Reading the weights that every token passes."""
    expert_read: float
    """Reading all routed experts."""
    expert_share: float
    """Share of the experts that one token visits (no unit)."""
    expert_tokens: float
    """Tokens that choose among these experts (no unit)."""
    sequences: float
    compute: float
    kv_read: float
    communication: float
    layers: float
    moe_layers: float
    tensor_parallel: float


@dataclass(frozen=True)
class PrefillWork:
    """Computing prompt tokens. Fields in seconds unless they say else."""

    dense_compute: float
    expert_compute: float
    expert_width: float
    """Columns of one expert that a rank multiplies: narrow products use the GPU badly (no unit)."""
    attention: float
    communication: float
    tensor_parallel: float


@dataclass(frozen=True)
class _Shape:
    """What does not change from step to step."""

    dense_read: float
    expert_read: float
    expert_share: float
    token_compute: float
    prefill_dense: float
    prefill_expert: float
    expert_width: float
    kv_growing: float
    kv_windows: tuple[tuple[int, float], ...]
    kv_state: float
    attention_full: float
    attention_windows: tuple[tuple[int, float], ...]
    moe_layers: float


def decode_work(d: Deployment, sequences: float, context_tokens: float) -> DecodeWork:
    """One decode step of `sequences` that hold `context_tokens` in all (0 sequences: none).

    With pipeline stages these are the sequences of one stage at a time: every stage reads only its
    own layers, and a token passes all of them one after the other.
    """
    shape = _shape(d)
    tokens = sequences * (1 + d.speculation.draft_tokens)
    mean_context = context_tokens / sequences if sequences else 0.0
    kv = shape.kv_growing * context_tokens + shape.kv_state * sequences
    for window, per_token in shape.kv_windows:
        kv += per_token * sequences * min(window, mean_context)
    return DecodeWork(
        dense_read=shape.dense_read,
        expert_read=shape.expert_read,
        expert_share=shape.expert_share,
        expert_tokens=tokens * (d.data_parallel if d.expert_parallel > 1 else 1),
        sequences=sequences,
        compute=shape.token_compute * tokens,
        kv_read=kv,
        communication=_communication(d, tokens),
        layers=d.model.layers,
        moe_layers=shape.moe_layers,
        tensor_parallel=d.tensor_parallel,
    )


def prefill_work(d: Deployment, tokens: float, context_tokens: float = 0.0) -> PrefillWork:
    """Computing `tokens` of prompts whose first `context_tokens` are already in the KV cache."""
    shape = _shape(d)
    attention = shape.attention_full * tokens * (context_tokens + tokens / 2)
    for window, per_pair in shape.attention_windows:
        attention += per_pair * tokens * min(window, context_tokens + tokens / 2)
    return PrefillWork(
        dense_compute=shape.prefill_dense * tokens,
        expert_compute=shape.prefill_expert * tokens,
        expert_width=shape.expert_width,
        attention=attention,
        communication=_communication(d, tokens),
        tensor_parallel=d.tensor_parallel,
    )


def flops(gpu: Gpu, weights: str) -> float:
    """FLOP/s of the products that these weights are multiplied with on this GPU.

    Four-bit weights are widened to 16 bits before they are multiplied, except where the GPU
    multiplies four-bit floats.
    """
    if weights == "nvfp4" and "fp4" in gpu.tflops:
        return gpu.flops("fp4")
    return gpu.flops(weights if weights in ("fp8", "int8") else "bf16")


def kv_bytes_per_token(d: Deployment) -> float:
    """Bytes that one rank keeps for one more token of context (windows and states left out)."""
    return _shape(d).kv_growing * d.gpu.bandwidth_gbps * 1e9


def _communication(d: Deployment, tokens: float) -> float:
    """Two sums over the ranks a layer, and the way from one pipeline stage to the next."""
    size = 2.0 * d.model.hidden * tokens
    sums = 2 * d.model.layers * d.gpu.all_reduce_seconds(d.tensor_parallel, size)
    hops = d.pipeline_parallel - 1
    if not hops:
        return sums
    link = d.gpu.link_gbps * 1e9 or math.inf
    return sums + hops * (_HOP_S + size / link)


# Start of a copy from GPU to GPU (AIConfigurator systems/*.yaml, p2p_latency, 2026-08-21).
_HOP_S = 10e-6


@lru_cache(maxsize=8192)
def _shape(d: Deployment) -> _Shape:
    model, tp = d.model, d.tensor_parallel
    held = model.weights(d.weights)
    bandwidth, speed = d.gpu.bandwidth_gbps * 1e9, flops(d.gpu, d.weights) * tp
    head = model.vocab * model.hidden  # the output layer is read, the input table is not
    moe = model.moe
    share = moe.experts_per_token / moe.experts if moe else 0.0
    dense_flops = 2.0 * (model.dense_parameters - model.vision_parameters + head)
    expert_flops = 2.0 * model.expert_parameters * share
    width = 2.0 if d.kv_dtype == "bf16" else 1.0
    kv = [(g, _kv_bytes(g, tp, width) / bandwidth) for g in model.attention if g.kind != "linear"]
    pairs = [
        (g, _pair_flops(model, g) / (flops(d.gpu, "bf16") * tp))
        for g in model.attention
        if g.kind != "linear"
    ]
    state = sum(g.layers * (g.state_bytes or 0) for g in model.attention) / tp / bandwidth
    whole = moe is not None and d.expert_parallel > 1
    return _Shape(
        dense_read=(held.dense + 2.0 * head) / tp / bandwidth,
        expert_read=held.experts / max(tp, d.expert_parallel) / bandwidth,
        expert_share=share,
        token_compute=(dense_flops + expert_flops) / speed,
        prefill_dense=0.0 if moe else dense_flops / speed,
        prefill_expert=(dense_flops + expert_flops) / speed if moe else 0.0,
        expert_width=(moe.intermediate / (1 if whole else tp)) if moe else 1e9,
        kv_growing=sum(seconds for g, seconds in kv if not g.window),
        kv_windows=tuple((g.window, seconds) for g, seconds in kv if g.window),
        kv_state=state,
        attention_full=sum(seconds for g, seconds in pairs if not g.window),
        attention_windows=tuple((g.window, seconds) for g, seconds in pairs if g.window),
        moe_layers=moe.layers if moe else 0,
    )


def _kv_bytes(group: AttentionGroup, tensor_parallel: int, width: float) -> float:
    """Bytes that one rank reads for one cached token, over all layers of the group."""
    if group.kind == "mla":  # the latent is on every rank
        return group.layers * ((group.kv_lora_rank or 0) + (group.rope_head_dim or 0)) * width
    shards = min(tensor_parallel, group.kv_heads)  # beyond its heads a rank keeps copies
    return group.layers * 2 * group.kv_heads * group.head_dim * width / shards


def _pair_flops(model: ModelSpec, group: AttentionGroup) -> float:
    """FLOPs of one query token with one key token, over all layers of the group."""
    value = group.v_head_dim or group.head_dim
    return 2.0 * group.layers * model.heads * (group.head_dim + value)
