"""Rules of single keys of a pool that look at more than the key: rollout and disaggregated."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import nearest
from .stack import ModelPool, Stack
from .target import LocalTarget

Problem = tuple[str, str]


def rollout_problems(stack: Stack) -> Iterator[Problem]:
    """A rollout leads to one other pool, which could have answered what its share asks."""
    pools = {pool.name: pool for pool in stack.pools}
    taken: dict[str, str] = {}
    for place, pool in enumerate(stack.pools):
        if pool.rollout is None:
            continue
        path, of = f"pools[{place}].rollout.of", pool.rollout.of
        others = [
            name for name, other in pools.items() if other.role == pool.role and other != pool
        ]
        if of == pool.name:
            yield path, f'"{of}" is this very pool: name the pool whose requests it takes'
        elif of not in pools:
            yield (
                path,
                f'there is no pool "{of}"{nearest(of, others)}; there are: {_listed(others)}',
            )
        elif other := pools[of].rollout:
            yield path, f'"{of}" is being rolled out itself: say of: {other.of}'
        elif of in taken:
            yield path, f'"{of}" already gives a share to {taken[of]}: one rollout at a time'
        else:
            taken[of] = pool.name
            yield from _unlike(pools[of], pool, f"pools[{place}]")


def _unlike(old: ModelPool, new: ModelPool, path: str) -> Iterator[Problem]:
    if old.role != new.role:
        yield f"{path}.rollout.of", f'"{old.name}" has role {old.role}, {new.name} has {new.role}'
    if old.context and new.context and new.context < old.context:
        yield (
            f"{path}.context",
            f"{new.context} is less than the {old.context} of {old.name}, whose requests it takes: "
            f"{old.context} or more",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none of this role"


def disaggregated_problems(stack: Stack) -> Iterator[Problem]:
    for place, pool in enumerate(stack.pools):
        if pool.disaggregated is None:
            continue
        path = f"pools[{place}].disaggregated"
        if isinstance(stack.target, LocalTarget):
            yield path, "needs GPUs: leave it out here, and rehearse a stack for a cluster"
        if pool.role != "generate":
            yield (
                path,
                f'does not go with role "{pool.role}": only text is written after it is read',
            )
        if stack.hours:
            yield (
                "hours",
                f"does not go with disaggregated (pool {pool.name}): its parts do not scale",
            )
        for key, why in _ALONE.items():
            if key in pool.model_fields_set and getattr(pool, key) is not None:
                yield f"pools[{place}].{key}", f"does not go with disaggregated: {why}"
        if pool.placement.replicas is not None:
            yield (
                f"pools[{place}].placement.replicas",
                "does not go with disaggregated: pin disaggregated.prefill_replicas and "
                "decode_replicas",
            )
        if (pool.placement.pipeline_parallel or 1) > 1:
            yield (
                f"pools[{place}].placement.pipeline_parallel",
                "does not go with disaggregated: NIXL moves no KV cache of pipeline stages (vLLM "
                "0.32): tensor_parallel",
            )
        if pool.engine.kv_offload_gib is not None:
            yield (
                f"pools[{place}].engine.kv_offload_gib",
                "does not go with disaggregated: the KV cache goes from worker to worker",
            )


# Keys of a pool that say something else of the same thing.
_ALONE = {
    "gpu_group": "a worker that only reads keeps its GPU busy",
    "policy": "vllm-router spreads requests by load",
}
