"""What a stack file may say about an engine: the `engine:` block of a model pool.

Freehold names what it plans with and checks; everything else of vLLM's command line is reached
through `extra_args`. `freehold.engine` turns these options into the command line.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from .base import Model

# What vLLM 0.32 takes for --quantization (vllm/model_executor/layers/quantization, read
# 2026-11-23), less the deprecated and the vendor-specific ones. Leave it out for a checkpoint that
# is already quantized: its config.json says so.
Quantization = Literal[
    "awq",
    "awq_marlin",
    "gptq",
    "gptq_marlin",
    "fp8",
    "fp8_per_tensor",
    "fp8_per_block",
    "compressed-tensors",
    "modelopt",
    "modelopt_fp4",
    "mxfp4",
    "moe_wna16",
    "experts_int8",
    "int8_per_channel_weight_only",
    "torchao",
]
KvCacheDtype = Literal["auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]


class NgramSpeculation(Model):
    """Guess the next tokens from n-grams of the prompt: no second model, no memory."""

    method: Literal["ngram"]
    num_speculative_tokens: int = Field(default=4, ge=1, le=16)
    prompt_lookup_min: int = Field(default=2, ge=1)
    prompt_lookup_max: int = Field(default=4, ge=1)


class DraftModelSpeculation(Model):
    """A small model of the same tokenizer guesses; the large one checks."""

    method: Literal["draft_model"]
    model: str
    num_speculative_tokens: int = Field(default=4, ge=1, le=16)
    draft_tensor_parallel_size: int | None = Field(default=None, ge=1)


class Eagle3Speculation(Model):
    """An EAGLE-3 head trained for this very model guesses from its hidden states."""

    method: Literal["eagle3"]
    model: str
    num_speculative_tokens: int = Field(default=3, ge=1, le=16)
    draft_tensor_parallel_size: int | None = Field(default=None, ge=1)


class MtpSpeculation(Model):
    """The model's own multi-token-prediction layers guess (DeepSeek-V3/R1 and kin)."""

    method: Literal["mtp"]
    num_speculative_tokens: int = Field(default=1, ge=1, le=8)


Speculation = Annotated[
    NgramSpeculation | DraftModelSpeculation | Eagle3Speculation | MtpSpeculation,
    Field(discriminator="method"),
]


class LoraAdapter(Model):
    """A LoRA adapter served under its own name beside its base model."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,126}$")
    path: str = Field(description="Folder, or hub id, of the adapter.")


class EngineOptions(Model):
    """Options of one engine (every replica of a pool gets the same)."""

    dtype: Dtype = "auto"
    quantization: Quantization | None = None
    kv_cache_dtype: KvCacheDtype = "auto"
    tensor_parallel: int = Field(default=1, ge=1, le=16)
    pipeline_parallel: int = Field(default=1, ge=1, le=16)
    max_model_len: int | None = Field(
        default=None, ge=16, description="Longest prompt plus answer, in tokens."
    )
    memory_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the accelerator's memory (vLLM's --gpu-memory-utilization).",
    )
    kv_cache_gib: float | None = Field(
        default=None, gt=0, description="KV cache size, GiB; instead of a share."
    )
    kv_offload_gib: float | None = Field(
        default=None,
        gt=0,
        description="Host memory, GiB over all ranks of a replica, that vLLM itself moves KV blocks "
        "to: for one engine, where no `cache:` is shared. GPUs only.",
    )
    block_size: int | None = Field(default=None, ge=1, description="Tokens a KV-cache block.")
    max_num_seqs: int | None = Field(default=None, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    prefix_caching: bool = True
    enforce_eager: bool = False
    speculation: Speculation | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None
    lora: list[LoraAdapter] = []
    max_lora_rank: int | None = Field(default=None, ge=1)
    max_queued_requests: int | None = Field(
        default=None,
        ge=1,
        description="Beyond this many requests, running and waiting, the engine answers 503. The plan sets "
        "it where `objectives.median_ttft_ms` is given.",
    )
    shutdown_timeout: int | None = Field(
        default=None, ge=0, description="Seconds that running requests get to end on SIGTERM."
    )
    hf_overrides: dict[str, JsonValue] | None = None
    trust_remote_code: bool = False
    extra_args: list[str] = Field(
        default=[], description="Passed to vLLM as they are, after everything else."
    )
