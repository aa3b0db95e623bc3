"""What a pool must carry, and how fast."""

from __future__ import annotations

from pydantic import Field, model_validator

from .base import Model


class Demand(Model):
    """The load at its peak. Say it as users, as concurrency, or as requests and tokens a minute.

    Requests and tokens a minute may both be given, as API quotas are: the larger one counts.
    """

    users: int | None = Field(default=None, ge=1, description="People or agents at work at once.")
    think_seconds: float = Field(
        default=30, ge=0, description="With `users`: from an answer's end to the next question."
    )
    concurrency: float | None = Field(default=None, gt=0, description="Requests in flight.")
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(
        default=None, gt=0, description="Prompt and answer together."
    )
    input_tokens: int = Field(ge=1, description="A typical prompt, history included.")
    output_tokens: int = Field(ge=1, description="A typical answer.")
    prefix_hit_rate: float = Field(
        default=0.0, ge=0, lt=1, description="Share of prompt tokens found in the KV cache."
    )
    shared_prefix_tokens: int | None = Field(
        default=None,
        ge=0,
        description="Beginning that all prompts share (instructions, tools): what sealing tenants' "
        "caches costs.",
    )
    accepted_tokens: float = Field(
        default=0.0,
        ge=0,
        le=16,
        description="With speculation: guessed tokens accepted a step, on average. "
        "It depends on your texts: measure it; 0 predicts no gain.",
    )

    @model_validator(mode="after")
    def _said_once(self) -> Demand:
        rate = self.requests_per_minute is not None or self.tokens_per_minute is not None
        ways = [self.users is not None, self.concurrency is not None, rate]
        if sum(ways) != 1:
            raise ValueError(
                "say the load in exactly one way: users, concurrency, or requests_per_minute "
                "and tokens_per_minute"
            )
        return self


class Objectives(Model):
    """Medians that the plan must meet at the stated load; what is left out is not asked for."""

    median_ttft_ms: float | None = Field(default=None, gt=0, description="Time to the first token.")
    median_tpot_ms: float | None = Field(
        default=None, gt=0, description="Time per output token after the first."
    )


class Placement(Model):
    """Pins what the plan would choose; `freehold plan STACK --write` fills it in.

    A pinned part never changes because a price did. What is left out is still chosen.
    """

    instance_type: str | None = None
    tensor_parallel: int | None = Field(default=None, ge=1, le=16)
    pipeline_parallel: int | None = Field(default=None, ge=1, le=16)
    replicas: int | None = Field(default=None, ge=1, le=64)


class Disaggregated(Model):
    """Some workers only read prompts, the others only write answers. What is left out the plan
    chooses."""

    prefill_replicas: int | None = Field(default=None, ge=1, le=63, description="Read prompts.")
    decode_replicas: int | None = Field(default=None, ge=1, le=63, description="Write answers.")
    link_gbps: float | None = Field(
        default=None,
        gt=0,
        description="Gbit/s at which a KV cache goes from one worker to another, where you have "
        "measured it or run RDMA of your own; when absent, TCP as EC2 limits it.",
    )

    @property
    def replicas(self) -> int | None:
        """Of both parts, where both are pinned."""
        if self.prefill_replicas is None or self.decode_replicas is None:
            return None
        return self.prefill_replicas + self.decode_replicas
