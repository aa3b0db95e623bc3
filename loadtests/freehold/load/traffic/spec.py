"""What kind of traffic a test sends, as data: a tier file says it, the command line may change it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from freehold.config.base import Model

Kind = Literal["fixed", "chat", "retrieval", "agents", "embed", "rerank"]
Tokens = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Traffic(Model):
    """One pattern of requests. All lengths are tokens and exact."""

    kind: Kind = "fixed"
    input_tokens: Tokens = 1024
    """The prompt; for chat and agents where a conversation begins."""
    output_tokens: Tokens = 128
    """An answer, on average."""
    output_spread: Share = 0.0
    """Answers differ in length by up to this share, evenly spread: `--random-range-ratio` of vLLM's
    tool. Equal ones keep requests in step, each round behind the others' prompts."""
    context_limit: Tokens = 20_000
    """A conversation that has grown to this starts over."""
    turn_tokens: Tokens = 200
    """What each turn of a conversation adds: a question, or a tool's result."""
    system_tokens: Annotated[int, Field(ge=0)] = 0
    """Instructions that all conversations begin with (shared prefix)."""
    prefix_reuse: Share = 0.0
    """`fixed` only: share of the prompt that all requests begin with."""
    documents: Annotated[int, Field(ge=1)] = 8
    """`retrieval`: documents put into the prompt; `embed` and `rerank`: texts a request."""
    knowledge_base: Annotated[int, Field(ge=1)] = 200
    """`retrieval`: documents there are; popular ones come more often."""
    embed_model: str | None = None
    rerank_model: str | None = None
    cancelled: Share = 0.0
    """Share of answers that the client hangs up on half-way."""
    think_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Closed loop: from an answer to the user's next request, on average."""
    tool_seconds: Annotated[float, Field(ge=0)] = 0.0
    """`agents`: how long a tool works before its result goes back."""
    ignore_eos: bool = True
    """Make every answer exactly as long as asked for (vLLM's own parameter; others refuse it)."""

    def within(self, max_model_len: int | None) -> Traffic:
        """The same pattern, scaled down to a model that takes less context."""
        longest = self.longest
        if max_model_len is None or longest <= max_model_len:
            return self
        output = min(self.output_tokens, max(1, max_model_len // 4))
        shorter = self.model_copy(update={"output_tokens": output})
        scale = (max_model_len - shorter.longest_output) / (longest - self.longest_output)
        scaled = {
            name: max(least, int(getattr(self, name) * scale))
            for name, least in (
                ("input_tokens", 32),
                ("turn_tokens", 24),
                ("system_tokens", 0),
            )
        }
        limit = max_model_len if self.grows else self.context_limit
        return self.model_copy(update={**scaled, "output_tokens": output, "context_limit": limit})

    @property
    def grows(self) -> bool:
        return self.kind in ("chat", "agents")

    @property
    def longest(self) -> int:
        """Prompt and answer of the longest request."""
        if self.grows:
            return max(self.context_limit, self.input_tokens + self.longest_output)
        return self.input_tokens + (
            self.longest_output if self.kind in ("fixed", "retrieval") else 0
        )

    @property
    def longest_output(self) -> int:
        return math.ceil(self.output_tokens * (1 + self.output_spread))


# From half of the mean to half more. Real answers have a longer tail, which a run of minutes would catch
# by chance alone.
ANSWERS_DIFFER = 0.5

TIERS: dict[str, Traffic] = {
    # Lengths are the tiers' own (DESIGN: small 2k-20k, medium 20k-50k, large 50k and more).
    "small": Traffic(
        kind="chat",
        system_tokens=500,
        input_tokens=2_000,
        turn_tokens=350,
        output_tokens=300,
        output_spread=ANSWERS_DIFFER,
        context_limit=20_000,
        think_seconds=10.0,
    ),
    "medium": Traffic(
        kind="retrieval",
        system_tokens=500,
        input_tokens=30_000,
        output_tokens=400,
        output_spread=ANSWERS_DIFFER,
        documents=10,
        knowledge_base=400,
        think_seconds=20.0,
    ),
    "large": Traffic(
        kind="agents",
        system_tokens=8_000,
        input_tokens=50_000,
        turn_tokens=1_500,
        output_tokens=400,
        output_spread=ANSWERS_DIFFER,
        context_limit=100_000,
        tool_seconds=2.0,
        cancelled=0.03,
    ),
}


def tier_traffic(tier: str | None) -> Traffic:
    """A tier's traffic; a stack without a tier (the laptop's) gets the small one."""
    return TIERS[tier or "small"]
