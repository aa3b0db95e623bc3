"""What is asked: one replica's deployment, and the load on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from freehold.catalog.gpus import Gpu
from freehold.catalog.models import ModelSpec


@dataclass(frozen=True)
class Speculation:
    """Speculative decoding as two explicit numbers.

    A step checks `draft_tokens` proposals a sequence beside its own token and yields
    `tokens_per_step` tokens on average (1: nothing accepted). `draft_seconds` is what proposing
    takes a step: 0 for n-gram lookup, the draft model's own steps otherwise.
    """

    tokens_per_step: float = 1.0
    draft_tokens: int = 0
    draft_seconds: float = 0.0


@dataclass(frozen=True)
class Factors:
    """Times what the latency model says without them: what a load test found on a cluster."""

    step: float = 1.0
    """Every decode step."""
    prefill: float = 1.0
    """Computing a prompt."""
    request: float = 1.0
    """What a request waits for beside these: HTTP, tokenising, the step under way."""
    measured: str = ""
    """When; empty: nothing was."""


@dataclass(frozen=True)
class Deployment:
    """One replica: a model in one quantization on so many GPUs, with the engine's limits."""

    model: ModelSpec
    gpu: Gpu
    weights: str
    kv_dtype: Literal["bf16", "fp8"] = "bf16"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1
    speculation: Speculation = Speculation()
    kv_budget_tokens: int | None = None
    """KV cache tokens that one replica holds; None: more than it will ever need."""
    max_num_seqs: int | None = None
    max_num_batched_tokens: int = 8192
    factors: Factors = Factors()

    @property
    def name(self) -> str:
        """What a calibration belongs to."""
        gpus = self.tensor_parallel * self.pipeline_parallel * self.data_parallel
        return f"{self.model.name} {self.weights} on {gpus} {self.gpu.name}"


@dataclass(frozen=True)
class Load:
    """A closed loop: `concurrency` clients, each sending the next request when one is answered."""

    input_tokens: float
    output_tokens: float
    concurrency: float
    prefix_hit_rate: float = 0.0
    """Share of the input tokens that the prefix cache already holds."""
