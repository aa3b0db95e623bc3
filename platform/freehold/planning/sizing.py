"""One pool on one kind of GPU: does it fit, and how many requests does a replica hold?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from freehold.catalog.gpus import Gpu
from freehold.catalog.models import Checkpoint, ModelSpec
from freehold.config.stack import ModelPool

from .memory import (
    DEFAULT_SHARE,
    Engine,
    Memory,
    Split,
    concurrency,
    draft_bytes,
    engine_memory,
    gpu_gib,
    keeps_kv,
    needed_gib,
)

# vLLM's default for GPUs below 70 GiB (0.32, arg_utils.py); more sequences than this are never a
# win at the latencies that people accept.
_MOST_SEQUENCES = 256
# Requests a pooling engine works on at once; they hold their KV cache for one step only.
_POOLING_SEQUENCES = 8


@dataclass(frozen=True)
class Wanted:
    """A pool with what the catalog knows of its model."""

    pool: ModelPool
    model: ModelSpec
    checkpoints: tuple[Checkpoint, ...]
    """Published weights that the stack file allows, the model's own format first."""
    draft: ModelSpec | None = None

    @property
    def context(self) -> int:
        return self.pool.context or self.model.max_context

    @property
    def request_tokens(self) -> int:
        """Prompt and answer of a typical request."""
        demand = self.pool.demand
        return demand.input_tokens + demand.output_tokens if demand else self.context

    @property
    def kv_dtype(self) -> str:
        return "fp8" if self.pool.engine.kv_cache_dtype.startswith("fp8") else "bf16"


@dataclass(frozen=True)
class Fit:
    """A replica that fits. Sequences are of one replica."""

    engine: Engine
    memory: Memory
    gpu: Gpu
    checkpoint: Checkpoint
    at_context: int
    """Requests of the full context that it holds at once."""
    at_typical_length: int
    sequences: int
    """vLLM's --max-num-seqs."""
    tokens: int
    """Of a typical request."""

    @property
    def kv_tokens(self) -> int | None:
        """KV cache in tokens of typical requests; None for an engine that keeps none."""
        held = concurrency(self.engine, self.memory.kv_cache, self.tokens)
        return None if math.isinf(held) else int(held * self.tokens)


def batched_tokens(wanted: Wanted, gpu: Gpu) -> int:
    """vLLM's --max-num-batched-tokens: its own default for the GPU, said out loud.

    8,192 on GPUs of 70 GiB and more, 2,048 below and on A100 (0.32, arg_utils.py; 16,384 from
    160 GiB on is not taken: the activations were measured at 8,192). A pooling engine must take a
    whole text in one step.
    """
    if wanted.pool.engine.max_num_batched_tokens:
        return wanted.pool.engine.max_num_batched_tokens
    default = 8192 if gpu.memory_mib >= 70 * 1024 and not gpu.name.startswith("A100") else 2048
    return default if wanted.pool.role == "generate" else max(2048, wanted.context)


def engine_of(wanted: Wanted, checkpoint: Checkpoint, split: Split, gpu: Gpu) -> Engine:
    return Engine(
        model=wanted.model,
        weights=checkpoint.quantization,
        split=split,
        kv_dtype=wanted.kv_dtype,
        context=wanted.context,
        batched_tokens=batched_tokens(wanted, gpu),
        eager=wanted.pool.engine.enforce_eager,
        draft_bytes=draft_bytes(wanted.model, wanted.pool.engine, wanted.draft),
    )


def size(
    wanted: Wanted, checkpoint: Checkpoint, split: Split, gpu: Gpu, share: float | None = None
) -> Fit | str:
    """The replica on this GPU, or why it cannot be."""
    if why := _unsuited(wanted, checkpoint, split, gpu):
        return why
    engine = engine_of(wanted, checkpoint, split, gpu)
    memory = engine_memory(engine, gpu, share or wanted.pool.engine.memory_share or DEFAULT_SHARE)
    full = concurrency(engine, memory.kv_cache, wanted.context)
    if full < 1 or (memory.total > memory.available):
        need = needed_gib(engine, 1, wanted.context)
        return (
            f"{checkpoint.quantization} with one request of {wanted.context:,} tokens needs "
            f"{need:.1f} GiB {_each(split)}, {gpu.name} gives {memory.available:.1f}"
        )
    typical = concurrency(engine, memory.kv_cache, wanted.request_tokens)
    sequences = wanted.pool.engine.max_num_seqs or max(1, _capped(typical, _MOST_SEQUENCES))
    return Fit(
        engine=engine,
        memory=memory,
        gpu=gpu,
        checkpoint=checkpoint,
        at_context=_capped(full, sequences),
        at_typical_length=_capped(typical, sequences),
        sequences=sequences,
        tokens=wanted.request_tokens,
    )


def _each(split: Split) -> str:
    return "on one GPU" if split.gpus == 1 else f"on each of {split.gpus} GPUs ({split})"


def _capped(held: float, sequences: int) -> int:
    return sequences if math.isinf(held) else min(sequences, int(held))


def smallest_gib(wanted: Wanted, checkpoint: Checkpoint, gpu: Gpu) -> float:
    """What a pool must have of one GPU: a full-context request, or its typical requests if more."""
    engine = engine_of(wanted, checkpoint, Split(), gpu)
    one = needed_gib(engine, 1, wanted.context)
    if not keeps_kv(wanted.model):
        return one
    demand = wanted.pool.demand
    at_once = float(_POOLING_SEQUENCES)
    if wanted.pool.role == "generate":
        at_once = (demand.concurrency or 1.0) if demand else 1.0
    return max(one, needed_gib(engine, at_once, wanted.request_tokens))


def share_of(gib: float, gpu: Gpu) -> float:
    """The memory share that grants so many GiB, rounded up to a hundredth."""
    return math.ceil(gib / gpu_gib(gpu) * 100) / 100


def _unsuited(wanted: Wanted, checkpoint: Checkpoint, split: Split, gpu: Gpu) -> str | None:
    """Why a checkpoint or a split does not go with this model and GPU, whatever the memory."""
    if checkpoint.min_sm and gpu.sm < checkpoint.min_sm:
        return (
            f"{checkpoint.quantization} needs compute capability {checkpoint.min_sm / 10:.1f}, "
            f"{gpu.name} has {gpu.sm / 10:.1f}"
        )
    if wanted.kv_dtype == "fp8" and gpu.sm < 89:
        return f"an fp8 KV cache needs compute capability 8.9, {gpu.name} has {gpu.sm / 10:.1f}"
    if why := tensor_parallel_problem(wanted.model, split.tensor_parallel):
        return why
    if split.pipeline_parallel > wanted.model.layers:
        return (
            f"pipeline_parallel {split.pipeline_parallel} is more than {wanted.model.layers} layers"
        )
    return None


def tensor_parallel_problem(model: ModelSpec, ranks: int) -> str | None:
    """vLLM's rules: ranks divide the attention heads, and divide the KV heads or repeat them."""
    allowed = [n for n in (1, 2, 3, 4, 5, 6, 7, 8, 16) if _divides(model, n)]
    if ranks in allowed:
        return None
    listed = ", ".join(map(str, allowed))
    if model.heads % ranks:
        return f"tensor_parallel {ranks} does not divide {model.heads} heads: {listed}"
    return f"tensor_parallel {ranks} does not go with the KV heads of {model.name}: {listed}"


def _divides(model: ModelSpec, ranks: int) -> bool:
    if model.heads % ranks:
        return False
    return all(
        group.kv_heads % ranks == 0 or ranks % group.kv_heads == 0
        for group in model.attention
        if group.kind in ("full", "sliding")
    )
