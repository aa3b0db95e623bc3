"""KV cache that leaves the engine: to LMCache, to host memory, or to another worker."""

from __future__ import annotations

from collections.abc import Iterator

from .model_facts import ModelFacts
from .settings import EngineSettings, LmcacheTransfer, NativeOffload, NixlTransfer


def check_transfer(settings: EngineSettings, model: ModelFacts, *, on_cpu: bool) -> Iterator[str]:
    options, transfer = settings.options, settings.transfer
    if options.kv_offload_gib is not None and settings.kv_transfer is not None:
        yield (
            f"engine.kv_offload_gib {options.kv_offload_gib:g} does not go with the stack's cache, "
            "which already keeps KV blocks in host memory: leave one out"
        )
    match transfer:
        case LmcacheTransfer():
            yield from _chunk(settings, transfer, _block_size(settings, model, on_cpu))
        case NativeOffload() if on_cpu:
            yield "engine.kv_offload_gib needs a GPU: on a CPU use the stack's cache, or leave it out"
        case NixlTransfer() if on_cpu and transfer.buffer_device == "cuda":
            yield 'NIXL\'s buffer_device "cuda" needs a GPU: cpu'


def _block_size(settings: EngineSettings, model: ModelFacts, on_cpu: bool) -> int:
    """vLLM's default where none is said: 128 on a CPU; on a GPU 16, and 64 for MLA kernels."""
    if settings.options.block_size:
        return settings.options.block_size
    if on_cpu:
        return 16 if model.has_mla else 128
    return 64 if model.has_mla else 16


def _chunk(settings: EngineSettings, transfer: LmcacheTransfer, block: int) -> Iterator[str]:
    chunk = transfer.chunk_tokens
    if chunk % block:
        said = "engine.block_size" if settings.options.block_size else "the engine's block size"
        near = max(block, round(chunk / block) * block)
        yield (
            f"cache.chunk_tokens {chunk} is no whole number of blocks of {block} tokens "
            f"({said}): {near}"
        )
