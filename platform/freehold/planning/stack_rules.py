"""What is wrong with a stack as a whole, before and after its pools are placed."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.catalog.prices import load_system_nodes
from freehold.config.bedrock import BedrockTarget
from freehold.config.capacity import CapacityBlock, Reservation
from freehold.config.errors import nearest
from freehold.config.stack import Stack
from freehold.config.target import EksTarget
from freehold.engine import checks

from .cost import Cost
from .plan_types import PoolPlan

# Redis holds no more than this share of a system node: others live there too.
_REDIS_SHARE = 0.6


def stack_refusals(stack: Stack) -> list[str]:
    """What is wrong with the stack whatever its pools are."""
    found: list[str] = []
    target = stack.target.cluster if isinstance(stack.target, BedrockTarget) else stack.target
    if isinstance(target, EksTarget):
        known = load_system_nodes()
        name = target.system.instance_type
        if name not in known:
            found.append(
                f'target.system.instance_type: the catalog has no "{name}"{nearest(name, known)}; '
                f"it has: {', '.join(known)}"
            )
        elif stack.cache and stack.cache.redis and not stack.cache.redis.endpoint:
            found += _redis_problem(stack, known[name].ram_gib)
    single = [
        f"pools[{place}] ({pool.name}).capacity"
        for place, pool in enumerate(stack.pools)
        if stack.ha and isinstance(pool.capacity or stack.capacity, CapacityBlock | Reservation)
    ]
    found += [
        f"{path}: a reservation is in one zone, ha: true wants two: leave ha out, or buy on_demand"
        for path in single
    ]
    return found


def _redis_problem(stack: Stack, ram_gib: float) -> list[str]:
    assert stack.cache and stack.cache.redis
    asked, most = stack.cache.redis.memory_gib, ram_gib * _REDIS_SHARE
    if asked <= most:
        return []
    larger = [n.name for n in load_system_nodes().values() if n.ram_gib * _REDIS_SHARE >= asked]
    instead = f"target.system.instance_type: {larger[0]}" if larger else "cache.redis.endpoint"
    return [
        f"cache.redis.memory_gib: {asked:g} GiB, a system node of {ram_gib:g} GiB has {most:.1f} "
        f"for it: {most:.1f} or less, or {instead}"
    ]


def engine_refusals(pools: Sequence[PoolPlan]) -> list[str]:
    """What the engine's own rules say of the settings, with all that the plan decided in them."""
    return [
        f"pools[{place}] ({pool.name}): {line}"
        for place, pool in enumerate(pools)
        for line in checks.refusals(pool.settings, None)
    ]


def over_budget(stack: Stack, cost: Cost) -> list[str]:
    """A plan beyond the budget, and the ways of buying that would be within it."""
    if not stack.budget or cost.usd_per_month <= stack.budget.usd_per_month:
        return []
    cheaper = sorted(
        (change for change in cost.changes if change.usd_per_month <= stack.budget.usd_per_month),
        key=lambda change: change.usd_per_month,
        reverse=True,
    )
    gpus = f", of it {cost.gpu_usd_per_month:,.0f} for GPUs" if cost.gpu_usd_per_month else ""
    ways = " or ".join(f"{c.name} (${c.usd_per_month:,.0f})" for c in cheaper)
    return [
        f"budget.usd_per_month: {stack.budget.usd_per_month:,.0f}, the plan costs "
        f"{cost.usd_per_month:,.0f}{gpus}"
        f"{f'; within it: {ways}' if ways else ': raise it, or lower the demand'}"
    ]
