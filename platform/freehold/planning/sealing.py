"""What tenant-sealed caches cost: each tenant keeps its own copy of the text that all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .plan_types import Plan, PoolPlan


@dataclass(frozen=True)
class SealingCost:
    """Of one pool that generates."""

    caches: int
    """Tenants and groups of tenants whose prompts are kept apart."""
    shared_prefix_tokens: int
    kv_cache_share: float
    """What the copies beyond the first take of the KV cache."""
    hit_rate_lost: float
    """At most: as if the cache were smaller by that share, and hits with it. Beside it, each tenant
    reads the shared text once on each replica."""


def sealing_cost(plan: Plan, pool: PoolPlan) -> SealingCost | None:
    """None where nothing is sealed, or nothing is known of the pool's cache and load."""
    demand, sizing = pool.demand, pool.sizing
    if not plan.gateway.seals or demand is None or sizing is None or not sizing.kv_cache_tokens:
        return None
    shared = demand.shared_prefix_tokens or 0
    copies = (plan.gateway.caches - 1) * shared * pool.replicas
    share = min(1.0, copies / sizing.kv_cache_tokens)
    return SealingCost(plan.gateway.caches, shared, share, demand.prefix_hit_rate * share)


def sealing_lines(plan: Plan) -> Iterator[str]:
    for pool in plan.pools:
        cost = sealing_cost(plan, pool)
        if cost is None:
            continue
        apart = f"{pool.name}: {cost.caches} prompt caches are kept apart"
        if not cost.shared_prefix_tokens:
            yield f"{apart}; if tenants share a beginning, say demand.shared_prefix_tokens"
            continue
        yield (
            f"{apart}: copies of the {cost.shared_prefix_tokens:,} tokens that all share take "
            f"{cost.kv_cache_share:.1%} of the KV cache and at most {100 * cost.hit_rate_lost:.1f} "
            "points of the hit rate"
        )
