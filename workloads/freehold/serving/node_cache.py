"""LMCache once a node: one server, as large as its workers' sidecars would be together.

Workers of a node share what is in it. It is privileged, since it reads the memory of GPUs that it did
not ask for, and so lives in a namespace of its own; engines stay where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Scheduling, Target
from freehold.config.cache import KvCache
from freehold.engine.settings import LmcacheTransfer
from freehold.planning.plan import Plan, PoolPlan

from .engine_container import has_cache
from .kv_cache import RedisAddress, cache_container, cache_volumes, on_nodes, server_arguments
from .names import Names, all_labels, labels
from .pods import metadata, pod_spec, pod_template, selector
from .security import privileged_security

WHY_PRIVILEGED = "freehold/why-privileged"
"""Annotation that the policy `pod-privileges` wants to see on what is privileged."""
# It ends at once: what it holds is lost with it, and engines go on without.
_GRACE_SECONDS = 10


class NodeCaches(pulumi.ComponentResource):
    """Creates a DaemonSet for each node group whose engines use LMCache, and the Service by which
    engines find the server of their own node."""

    def __init__(
        self,
        plan: Plan,
        names: Names,
        target: Target,
        image: pulumi.Input[str],
        redis: RedisAddress | None,
        ready: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:serving:NodeCaches", "node-caches", None, opts)
        assert plan.cache is not None
        options = target.options(self, depends_on=ready)
        about = metadata("cache", names.node_cache, "cache")
        account = k8s.core.v1.ServiceAccount(
            "node-cache", metadata=about, automount_service_account_token=False, opts=options
        )
        k8s.core.v1.Service(
            "node-cache", metadata=about, spec=_service(plan.cache.port), opts=options
        )
        for group, pools in users_by_group(plan):
            cache = cache_of_node(plan.cache, pools)
            k8s.apps.v1.DaemonSet(
                f"node-cache-{group}",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=group,
                    namespace=names.node_cache,
                    labels=all_labels("cache", group),
                    annotations={WHY_PRIVILEGED: "reads the memory of GPUs that engines asked for"},
                ),
                spec=_daemon_set(group, cache, target, target.scheduling(pools[0]), image, redis),
                opts=target.options(self, depends_on=[*ready, account]),
            )
        self.register_outputs({})


def users_by_group(plan: Plan) -> Iterator[tuple[str, list[PoolPlan]]]:
    """Node groups with engines that use LMCache, and these."""
    for group in plan.node_groups:
        found = [p for p in plan.pools if p.name in group.pools and has_cache(p, plan.cache)]
        if found:
            yield group.name, found


def asking_its_node(pool: PoolPlan, cache: KvCache | None, names: Names) -> PoolPlan:
    """The pool with engines that speak to the server of their node, where there is one."""
    transfer = pool.settings.kv_transfer
    if not on_nodes(cache) or not isinstance(transfer, LmcacheTransfer):
        return pool
    transfer = dataclasses.replace(transfer, host=names.node_cache_host())
    settings = dataclasses.replace(pool.settings, kv_transfer=transfer)
    return dataclasses.replace(pool, settings=settings)


def cache_of_node(cache: KvCache, pools: Sequence[PoolPlan]) -> KvCache:
    """What the plan sets aside for the caches of all workers on a node, as one."""
    workers = sum(pool.placement.replicas_per_node for pool in pools if pool.placement)
    return cache.model_copy(
        update={
            "host_memory_gib": workers * cache.host_memory_gib,
            "nvme_gib": workers * cache.nvme_gib if cache.nvme_gib else None,
        }
    )


def _service(port: int) -> k8s.core.v1.ServiceSpecArgs:
    return k8s.core.v1.ServiceSpecArgs(
        selector=labels("cache"),
        # To the caller's own node or nowhere: GPU memory is read through the node's own driver.
        internal_traffic_policy="Local",
        ports=[k8s.core.v1.ServicePortArgs(name="cache", port=port)],
    )


def _daemon_set(
    group: str,
    cache: KvCache,
    target: Target,
    scheduling: Scheduling,
    image: pulumi.Input[str],
    redis: RedisAddress | None,
) -> k8s.apps.v1.DaemonSetSpecArgs:
    arguments = server_arguments(cache, redis, host="0.0.0.0")
    spec = pod_spec(
        target,
        scheduling,
        service_account="cache",
        grace_seconds=_GRACE_SECONDS,
        containers=[cache_container(cache, arguments, redis, image, privileged_security())],
        volumes=cache_volumes(cache),
    )
    return k8s.apps.v1.DaemonSetSpecArgs(
        revision_history_limit=3,
        selector=selector("cache", group),
        template=pod_template(spec, "cache", group),
    )
