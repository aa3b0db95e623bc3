"""What a stack with target.kind bedrock must say, and may not: nothing of it runs on GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from .base import Model
from .bedrock import BedrockTarget
from .demand import Demand
from .stack import ModelPool, Stack

Problem = tuple[str, str]

# Of all that a stack and a pool may say, what still means something; the rest is about engines.
_STACK_KEYS = frozenset(
    {"budget", "extends", "gateway", "hours", "observability", "pools", "target", "tier"}
)
_POOL_KEYS = frozenset({"aliases", "demand", "model", "name", "objectives", "role"})
# Without a cluster the gateway is one process on loopback.
_CLUSTER_GATEWAY_KEYS = ("exposure", "replicas", "tls")


def on_bedrock(stack: Stack, target: BedrockTarget) -> Iterator[Problem]:
    for key in sorted(_said(stack) - _STACK_KEYS):
        yield key, "has no effect with target.kind bedrock: it is about engines of your own"
    if "observability" in stack.model_fields_set and stack.observability.prometheus:
        yield (
            "observability.prometheus",
            "has no effect with target.kind bedrock: it watches engines",
        )
    if stack.gateway.sealed:
        yield (
            "gateway.sealed",
            "has no effect with target.kind bedrock: prompt caches are Bedrock's, one an account",
        )
    if target.cluster is None:
        for key in _CLUSTER_GATEWAY_KEYS:
            if key in stack.gateway.model_fields_set:
                yield f"gateway.{key}", "has no effect without target.cluster: one gateway, here"
    for place, pool in enumerate(stack.pools):
        yield from _pool(pool, f"pools[{place}]")


def _said(model: Model) -> set[str]:
    """Keys that the file has; `key: null` takes one back that `extends` brought."""
    return {key for key in model.model_fields_set if getattr(model, key) is not None}


def _pool(pool: ModelPool, path: str) -> Iterator[Problem]:
    if pool.role != "generate":
        yield (
            f"{path}.role",
            f'"{pool.role}" is not served at Bedrock\'s OpenAI-compatible endpoint, only chat is: '
            "role: generate, or another stack for this pool",
        )
    for key in sorted(_said(pool) - _POOL_KEYS):
        yield f"{path}.{key}", "has no effect with target.kind bedrock: the engine is Bedrock's"
    if pool.demand is None:
        yield (
            f"{path}.demand",
            "is required: requests_per_minute, input_tokens and output_tokens, for tokens are what "
            "you pay",
        )
    elif pool.demand.requests_per_minute is None and pool.demand.tokens_per_minute is None:
        yield f"{path}.demand", _as_a_rate(pool.demand)


def _as_a_rate(demand: Demand) -> str:
    """People and requests in flight make a rate only with answer times, which nobody knows."""
    why = "must be a rate, for nothing is known of Bedrock's answer times: say requests_per_minute"
    if demand.users and demand.think_seconds:
        most = demand.users * 60 / demand.think_seconds
        return f"{why} (at most {most:g}: {demand.users} users, {demand.think_seconds:g} s each)"
    return why
