"""What people want a model for, in the numbers that a stack file asks for."""

from __future__ import annotations

from dataclasses import dataclass

from freehold.config.stack import Tier


@dataclass(frozen=True)
class Task:
    """A kind of traffic. Lengths are tokens, objectives are medians in milliseconds.

    The figures are those that the preset of the same shape says and explains: Pulumi.small.yaml,
    Pulumi.medium.yaml and Pulumi.large.yaml.
    """

    says: str
    tier: Tier
    model: str
    context: int
    users: int
    think_seconds: int
    input_tokens: int
    output_tokens: int
    prefix_hit_rate: float
    ttft_ms: int
    tpot_ms: int
    retrieval: bool = False
    """With a pool that embeds and one that reranks."""


# The models are under Apache-2.0 and not gated, so that a first plan needs no agreement.
TASKS = {
    "chat": Task(
        says="people talk with it",
        tier="small",
        model="qwen2.5-7b",
        context=20_480,
        users=30,
        think_seconds=60,
        input_tokens=4_000,
        output_tokens=300,
        prefix_hit_rate=0.5,
        ttft_ms=2_000,
        tpot_ms=100,
    ),
    "documents": Task(
        says="it answers out of retrieved documents",
        tier="medium",
        model="gpt-oss-120b",
        context=51_200,
        users=20,
        think_seconds=120,
        input_tokens=24_000,
        output_tokens=500,
        prefix_hit_rate=0.6,
        ttft_ms=8_000,
        tpot_ms=100,
        retrieval=True,
    ),
    "agents": Task(
        says="programs call it in long loops",
        tier="large",
        model="gpt-oss-120b",
        context=65_536,
        users=8,
        think_seconds=5,
        input_tokens=50_000,
        output_tokens=1_000,
        prefix_hit_rate=0.8,
        ttft_ms=10_000,
        tpot_ms=50,
    ),
}


def tier_of(context: int) -> Tier:
    """The class of load tests, whose traffic differs by its lengths (docs/plan.md)."""
    if context > 51_200:
        return "large"
    return "medium" if context > 20_480 else "small"
