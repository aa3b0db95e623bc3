"""What no single key can say: rules between the keys of a stack file.

Each problem is `(key path, message)`; a stack without problems is consistent, which does not mean
that it can be placed: that is the plan's word.
"""

from __future__ import annotations

from collections.abc import Iterator

from .bedrock import BedrockTarget
from .bedrock_rules import on_bedrock
from .cache import KvCache
from .capacity import CapacityBlock, Reservation
from .errors import nearest
from .pool_rules import Problem, disaggregated_problems, rollout_problems
from .stack import ModelPool, Stack
from .target import EksTarget, ExistingCluster, LocalTarget


def problems(stack: Stack) -> list[Problem]:
    """Every contradiction in the stack, in the order of the file."""
    return [
        *_names(stack),
        *_tenants(stack),
        *_of_the_target(stack),
        *_groups(stack),
        *rollout_problems(stack),
        *disaggregated_problems(stack),
        *_schedule(stack),
    ]


def _of_the_target(stack: Stack) -> Iterator[Problem]:
    if isinstance(stack.target, LocalTarget):
        return _on_this_machine(stack)
    if isinstance(stack.target, BedrockTarget):
        return on_bedrock(stack, stack.target)
    return _on_a_cluster(stack)


def _names(stack: Stack) -> Iterator[Problem]:
    """Names that clients use must lead to one place only."""
    seen: dict[str, str] = {}
    for place, pool in enumerate(stack.pools):
        lora = [adapter.name for adapter in pool.engine.lora]
        for name in [pool.name, *pool.aliases, *lora]:
            if name in seen:
                yield (
                    f"pools[{place}]",
                    f'"{name}" names a model of pool {seen[name]} and of pool {pool.name}: '
                    "pool names, aliases and adapters must differ",
                )
            seen.setdefault(name, pool.name)


def _tenants(stack: Stack) -> Iterator[Problem]:
    served = {
        name
        for pool in stack.pools
        for name in [pool.name, *pool.aliases, *(lora.name for lora in pool.engine.lora)]
    }
    tenants: set[str] = set()
    for place, key in enumerate(stack.gateway.keys):
        path = f"gateway.keys[{place}]"
        if key.tenant in tenants:
            yield path, f'tenant "{key.tenant}" has two keys: give each its own name'
        tenants.add(key.tenant)
        if key.external and not _has_cluster(stack):
            yield (
                f"{path}.external",
                "has no effect without a cluster: say secret_env, or nothing and a key is made",
            )
        if key.cache_group and not stack.gateway.seals:
            yield (
                f"{path}.cache_group",
                "has no effect: all keys share one prompt cache unless gateway.sealed is true or there "
                "is more than one key",
            )
        for model in key.models or []:
            if model not in served:
                yield (
                    f"{path}.models",
                    f'key of tenant "{key.tenant}" allows the model "{model}", which no pool '
                    f"serves{nearest(model, served)}; served are: {', '.join(sorted(served))}",
                )


def _has_cluster(stack: Stack) -> bool:
    if isinstance(stack.target, BedrockTarget):
        return stack.target.cluster is not None
    return not isinstance(stack.target, LocalTarget)


# Keys that a laptop has no use for: saying them there is a misunderstanding.
_CLUSTER_KEYS = ("ha", "hours", "budget", "capacity")
_CLUSTER_POOL_KEYS = ("placement", "capacity", "gpu_group", "quantization")
_CLUSTER_GATEWAY_KEYS = ("replicas", "exposure", "tls")


def _on_this_machine(stack: Stack) -> Iterator[Problem]:
    for key in _CLUSTER_KEYS:
        if key in stack.model_fields_set:
            yield key, "has no effect with target.kind local: it is about bought GPUs"
    for key in _CLUSTER_GATEWAY_KEYS:
        if key in stack.gateway.model_fields_set:
            yield f"gateway.{key}", "has no effect with target.kind local: one gateway, on loopback"
    if stack.cache:
        yield from _local_cache(stack.cache)
    for place, pool in enumerate(stack.pools):
        for key in _CLUSTER_POOL_KEYS:
            if key in pool.model_fields_set:
                yield (
                    f"pools[{place}].{key}",
                    "has no effect with target.kind local: say it in engine or replicas",
                )


def _local_cache(cache: KvCache) -> Iterator[Problem]:
    where = "has no effect with target.kind local: the stack runs its own Redis, in memory"
    if cache.placement != "sidecar":
        yield "cache.placement", "has no effect with target.kind local: one server for all workers"
    if cache.nvme_gib is not None:
        yield "cache.nvme_gib", where
    if cache.redis and (cache.redis.endpoint or cache.redis.tls):
        yield "cache.redis.endpoint", where


# Keys of `engine` that the plan decides on a cluster -> what to say instead.
_PLANNED_ENGINE_KEYS = {
    "tensor_parallel": "placement.tensor_parallel",
    "pipeline_parallel": "placement.pipeline_parallel",
    "max_model_len": "context",
    "kv_cache_gib": "engine.memory_share",
}


def _on_a_cluster(stack: Stack) -> Iterator[Problem]:
    for place, pool in enumerate(stack.pools):
        path = f"pools[{place}]"
        if "replicas" in pool.model_fields_set:
            yield f"{path}.replicas", "the plan decides on a cluster; pin placement.replicas"
        if pool.fallback is not None:
            yield f"{path}.fallback", "is for target.kind local only: it is another model"
        for key, instead in _PLANNED_ENGINE_KEYS.items():
            if key in pool.engine.model_fields_set:
                yield f"{path}.engine.{key}", f"the plan decides on a cluster; say {instead}"
        yield from _demand(pool, path)
        yield from _zone(stack, pool, path)
    if isinstance(stack.target, ExistingCluster):
        if stack.hours:
            yield "hours", "has no effect with target.kind existing: its machines are there"
        bought = [("capacity", stack.capacity)]
        bought += [(f"pools[{i}].capacity", pool.capacity) for i, pool in enumerate(stack.pools)]
        for path, capacity in bought:
            if capacity and capacity.kind != "on_demand":
                yield path, "has no effect with target.kind existing: its machines are there"


def _demand(pool: ModelPool, path: str) -> Iterator[Problem]:
    if pool.context is None:
        yield f"{path}.context", "is required on a cluster: longest prompt plus answer, in tokens"
    if pool.demand is None:
        if pool.role == "generate":
            yield (
                f"{path}.demand",
                "is required for a generate pool on a cluster: users, concurrency, or "
                "requests_per_minute, with input_tokens and output_tokens",
            )
        return
    asked = pool.demand.input_tokens + pool.demand.output_tokens
    if pool.context is not None and asked > pool.context:
        yield (
            f"{path}.demand",
            f"input_tokens {pool.demand.input_tokens} and output_tokens "
            f"{pool.demand.output_tokens} make {asked}, more than context {pool.context}: "
            f"set context: {asked} or more",
        )


def _zone(stack: Stack, pool: ModelPool, path: str) -> Iterator[Problem]:
    """A reservation is in one zone, and the cluster must be there too."""
    capacity = pool.capacity or stack.capacity
    where = f"{path}.capacity" if pool.capacity else "capacity"
    if not isinstance(capacity, Reservation | CapacityBlock) or capacity.zone is None:
        return
    if isinstance(stack.target, EksTarget) and capacity.zone not in stack.target.zones:
        yield (
            f"{where}.zone",
            f'"{capacity.zone}" is not among target.zones ({", ".join(stack.target.zones)}): '
            "add it there",
        )


def _groups(stack: Stack) -> Iterator[Problem]:
    """Pools on one GPU are one replica each, on one kind of node."""
    members: dict[str, list[tuple[int, ModelPool]]] = {}
    for place, pool in enumerate(stack.pools):
        if pool.gpu_group:
            members.setdefault(pool.gpu_group, []).append((place, pool))
    for group, pools in members.items():
        if len(pools) == 1:
            yield (
                f"pools[{pools[0][0]}].gpu_group",
                f'only {pools[0][1].name} is in the group "{group}": leave the key out, or name '
                "the group in another pool",
            )
        for place, pool in pools:
            ranks = (pool.placement.tensor_parallel or 1) * (pool.placement.pipeline_parallel or 1)
            if ranks > 1:
                yield (
                    f"pools[{place}].placement",
                    f'{ranks} GPUs a replica do not go with gpu_group "{group}", which is one GPU: '
                    "leave gpu_group out",
                )
            if (pool.capacity or stack.capacity) != (pools[0][1].capacity or stack.capacity):
                yield (
                    f"pools[{place}].capacity",
                    f'differs from that of {pools[0][1].name} in the same gpu_group "{group}"',
                )


def _schedule(stack: Stack) -> Iterator[Problem]:
    if stack.hours and stack.hours.a_week <= 0:
        yield (
            "hours.stop",
            f"{stack.hours.stop} is not after start {stack.hours.start} on the same day",
        )
