"""From engine settings to vLLM's arguments: the same on laptop, cluster and simulator.

Says only what differs from vLLM's default and what Freehold insists on. The caller puts the program
before it and `--host` and `--port` after it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .settings import EngineSettings, LmcacheTransfer, NativeOffload, NixlTransfer, as_json

# What vLLM must make of the model for a role other than generating.
_CONVERT = {"embed": "embed", "rerank": "classify"}


def command_line(settings: EngineSettings) -> list[str]:
    """vLLM's arguments, in a stable order; `extra_args` last, so that they win."""
    return [
        *_model(settings),
        *_memory(settings),
        *_parallel(settings),
        *_kv_transfer(settings),
        *_generation(settings),
        *_serving(settings),
        *settings.options.extra_args,
    ]


def _model(settings: EngineSettings) -> Iterator[str]:
    options = settings.options
    yield from ("--model", settings.model)
    yield from ("--served-model-name", settings.served_name)
    if settings.revision:
        yield from ("--revision", settings.revision)
    if settings.load_format:
        yield from ("--load-format", settings.load_format)
    if settings.role in _CONVERT:
        yield from ("--runner", "pooling", "--convert", _CONVERT[settings.role])
    if options.dtype != "auto":
        yield from ("--dtype", options.dtype)
    if options.quantization:
        yield from ("--quantization", options.quantization)
    if options.max_model_len:
        yield from ("--max-model-len", str(options.max_model_len))
    if options.hf_overrides:
        yield from ("--hf-overrides", as_json(options.hf_overrides))
    if options.trust_remote_code:
        yield "--trust-remote-code"
    if options.enforce_eager:
        yield "--enforce-eager"


def _memory(settings: EngineSettings) -> Iterator[str]:
    options = settings.options
    if options.memory_share is not None:
        yield from ("--gpu-memory-utilization", f"{options.memory_share:g}")
    if options.kv_cache_gib is not None:
        yield from ("--kv-cache-memory-bytes", str(int(options.kv_cache_gib * 2**30)))
    if options.kv_cache_dtype != "auto":
        yield from ("--kv-cache-dtype", options.kv_cache_dtype)
    if options.block_size:
        yield from ("--block-size", str(options.block_size))
    if settings.role == "generate":
        # Said either way: what a plan relies on should not hang on a default.
        yield "--enable-prefix-caching" if options.prefix_caching else "--no-enable-prefix-caching"


def _parallel(settings: EngineSettings) -> Iterator[str]:
    options = settings.options
    if options.tensor_parallel > 1:
        yield from ("--tensor-parallel-size", str(options.tensor_parallel))
    if options.pipeline_parallel > 1:
        yield from ("--pipeline-parallel-size", str(options.pipeline_parallel))
    if options.max_num_seqs:
        yield from ("--max-num-seqs", str(options.max_num_seqs))
    if options.max_num_batched_tokens:
        yield from ("--max-num-batched-tokens", str(options.max_num_batched_tokens))


def _kv_transfer(settings: EngineSettings) -> Iterator[str]:
    transfer = settings.transfer
    if isinstance(transfer, LmcacheTransfer | NixlTransfer):
        yield from ("--kv-transfer-config", as_json(transfer.config()))
    elif isinstance(transfer, NativeOffload):
        yield from ("--kv-offloading-size", f"{transfer.gib:g}")
        yield from ("--kv-offloading-backend", "native")


def _generation(settings: EngineSettings) -> Iterator[str]:
    options = settings.options
    if options.speculation:
        speculation = options.speculation.model_dump(exclude_none=True)
        yield from ("--speculative-config", as_json(speculation))
    if options.tool_call_parser:
        # Agents let the model choose; without the first flag vLLM answers 400 to them.
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", options.tool_call_parser)
    if options.reasoning_parser:
        yield from ("--reasoning-parser", options.reasoning_parser)
    if options.chat_template:
        yield from ("--chat-template", options.chat_template)
    if options.lora:
        yield "--enable-lora"
        if options.max_lora_rank:
            yield from ("--max-lora-rank", str(options.max_lora_rank))
        yield from ("--max-loras", str(len(options.lora)))
        yield from ("--lora-modules", *(f"{lora.name}={lora.path}" for lora in options.lora))


def _serving(settings: EngineSettings) -> Iterator[str]:
    options = settings.options
    if options.max_queued_requests:
        yield from ("--max-num-queued-reqs", str(options.max_queued_requests))
    if options.shutdown_timeout is not None:
        yield from ("--shutdown-timeout", str(options.shutdown_timeout))
    # Probes and scrapes every few seconds would bury the lines that matter.
    yield from ("--disable-access-log-for-endpoints", "/health,/metrics")
    yield "--enable-request-id-headers"  # the gateway's request id, back in the answer
    if settings.role == "generate":
        yield "--enable-prompt-tokens-details"  # cached tokens in `usage`, for bills and load tests
