"""Everything that a plan puts on a cluster to serve its models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pulumi

from freehold.cluster.targets import Target
from freehold.planning.plan import Plan

from .drain import cut_short
from .gateway_deployment import GatewayDeployment
from .hosted import address_of, runs_engines
from .images import Images, images_of
from .kv_cache import cache_warnings, on_nodes, redis_address
from .model_pool import ModelPool, ModelPoolArgs, spare_places
from .names import Names
from .namespaces import Namespaces
from .network import NetworkPolicies
from .node_cache import NodeCaches, asking_its_node
from .prefill_decode import PrefillDecodeRouter
from .redis import Redis


@dataclass(frozen=True)
class Deployed:
    """What came of it."""

    base_url: pulumi.Output[str]
    """Of the gateway, with `/v1`."""
    keys: Mapping[str, pulumi.Output[str]]
    """Each tenant's key, secret."""
    names: Names
    """Namespaces and addresses: monitoring lives in `names.monitoring`."""
    warnings: tuple[str, ...]
    serving: Serving
    """The component, parent of all the rest."""


class Serving(pulumi.ComponentResource):
    """Parent of every object that serves a stack's models."""

    def __init__(self, stack: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("freehold:serving:Serving", stack, None, opts)
        self.register_outputs({})


def deploy(plan: Plan, target: Target, *, opts: pulumi.ResourceOptions | None = None) -> Deployed:
    """Engines, cache and gateway of a plan on a target; nothing of it is computed here but by the plan.

    Raises FreeholdError where this target cannot serve the plan.
    """
    names, serving = Names(plan.stack), Serving(plan.stack, opts)
    child = pulumi.ResourceOptions(parent=serving)
    redis = redis_address(plan.cache, names) if plan.cache else None
    own = redis is not None and redis.own
    images = images_of(plan.release, target, own_redis=own)
    by_node, engines = on_nodes(plan.cache), runs_engines(plan)
    namespaces = Namespaces(names, target, child, redis=own, node_cache=by_node, engines=engines)
    policies = NetworkPolicies(
        names,
        target,
        child,
        own_redis=own,
        redis_endpoint=redis.port if redis and not own else None,
        apart=any(pool.disaggregation for pool in plan.pools),
        node_cache_port=plan.cache.port if plan.cache and by_node else None,
        namespaces=[*namespaces.all.values()],
        hosted_port=None if engines else address_of(plan)[1],
    )
    # Nothing runs before it is closed.
    ready: tuple[pulumi.Resource, ...] = (*namespaces.all.values(), *policies.all)
    secrets: tuple[pulumi.Resource, ...] = ()
    if own:
        assert plan.cache is not None and plan.cache.redis is not None
        users = names.node_cache if by_node else names.models
        tier = Redis(plan.cache.redis, names, target, images.redis, users, _after(serving, ready))
        secrets = tuple(tier.secrets)
    if by_node:
        NodeCaches(plan, names, target, images.engine, redis, (*ready, *secrets), child)
    for pool in (asking_its_node(pool, plan.cache, names) for pool in plan.pools):
        if pool.hosted:
            continue
        ModelPool(
            ModelPoolArgs(plan, pool, names, target, images.engine, redis, (*ready, *secrets)),
            child,
        )
        if pool.disaggregation:
            PrefillDecodeRouter(pool, names, target, images.router, child, ready)
    gateway = GatewayDeployment(plan, names, target, images, child, ready)
    return Deployed(
        base_url=gateway.base_url,
        keys=gateway.keys,
        names=names,
        warnings=tuple(_warnings(plan, images)),
        serving=serving,
    )


def _after(parent: pulumi.Resource, ready: tuple[pulumi.Resource, ...]) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(parent=parent, depends_on=list(ready))


def _warnings(plan: Plan, images: Images) -> Iterator[str]:
    yield from images.warnings
    if plan.cache:
        yield from cache_warnings(plan.cache)
    for pool in plan.pools:
        if warning := cut_short(pool):
            yield warning
        if pool.replicas == 1 and spare_places(plan, pool) < 1:
            yield (
                f"{pool.name}: one replica and no spare GPU: a rollout stops it for as long as a start "
                "takes"
            )
