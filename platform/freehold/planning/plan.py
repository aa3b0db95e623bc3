"""From a stack to its Plan: a pure function of the stack file and the catalog."""

from __future__ import annotations

from collections.abc import Mapping

from freehold.catalog.models import ModelSpec
from freehold.catalog.release import load_release
from freehold.config.bedrock import BedrockTarget
from freehold.config.stack import ModelPool, Stack
from freehold.config.target import LocalTarget
from freehold.engine.settings import EngineSettings, KvTransfer, LmcacheTransfer

from .plan_types import HostedModel, NodeGroup, Plan, PoolPlacement, PoolPlan, Sizing

__all__ = ["HostedModel", "NodeGroup", "Plan", "PoolPlacement", "PoolPlan", "Sizing", "make_plan"]


def make_plan(
    name: str,
    stack: Stack,
    *,
    models: Mapping[str, ModelSpec] | None = None,
    today: str | None = None,
) -> Plan:
    """The Plan of a stack; the same arguments give the same Plan.

    `models` adds models that the catalog lacks, by what the stack file calls them. `today` (ISO)
    is what the age of prices is counted to; without it nobody is warned of old ones.
    Raises FreeholdError that names everything that cannot be, with the nearest thing that can.
    """
    if isinstance(stack.target, BedrockTarget):
        from .on_bedrock import plan_bedrock

        return plan_bedrock(name, stack, today)
    if not isinstance(stack.target, LocalTarget):
        from .on_cluster import plan_cluster  # here: a laptop's stack needs none of it

        return plan_cluster(name, stack, models or {}, today)
    return Plan(
        stack=name,
        target=stack.target,
        pools=tuple(_local_pool(pool, stack) for pool in stack.pools),
        cache=stack.cache,
        gateway=stack.gateway,
        observability=stack.observability,
        engine_ports_from=stack.engine_ports_from,
        release=load_release(),
        tier=stack.tier,
    )


def _local_pool(pool: ModelPool, stack: Stack) -> PoolPlan:
    """What runs on this machine is what the stack file says: nothing is bought, nothing chosen."""
    transfer: KvTransfer | None = None
    if stack.cache and pool.role == "generate":
        transfer = LmcacheTransfer(port=stack.cache.port, chunk_tokens=stack.cache.chunk_tokens)
    options = pool.engine
    if options.max_model_len is None and pool.context is not None:
        options = options.model_copy(update={"max_model_len": pool.context})
    settings = EngineSettings(
        model=pool.model,
        served_name=pool.name,
        role=pool.role,
        options=options,
        revision=pool.revision,
        kv_transfer=transfer,
    )
    return PoolPlan(
        name=pool.name,
        role=pool.role,
        policy=pool.policy,
        replicas=pool.replicas,
        aliases=tuple(pool.aliases),
        settings=settings,
        rollout=pool.rollout,
        fallback=pool.fallback,
        demand=pool.demand,
        objectives=pool.objectives,
        not_predicted="nothing was measured on this machine's CPU, and a CPU is no GPU of the catalog",
    )
