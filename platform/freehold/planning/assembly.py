"""From placed units to the Plan's pools and node groups: the engine's settings, said explicitly."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.config.capacity import CapacityBlock, OnDemand, Reservation
from freehold.config.stack import Stack
from freehold.config.target import EksTarget, ExistingCluster
from freehold.engine.settings import EngineSettings, LmcacheTransfer, NixlTransfer

from .admission import most_unfinished
from .host import engine_need
from .options import Option, Placed, Rules
from .placement import Search, transfer
from .plan_types import Disaggregation, NodeGroup, PoolPlacement, PoolPlan, Sizing
from .startup import startup
from .trap import ways_around

# Templates that vLLM's image carries beside the package (its Dockerfile copies examples/ there).
_TEMPLATES = "/vllm-workspace/examples/"


def pool_plans(stack: Stack, searches: Sequence[Search], rules: Rules) -> tuple[PoolPlan, ...]:
    """Every pool of the stack whose unit was placed, in the order of the file."""
    planned = {
        placed.wanted.pool.name: _pool(stack, found, found.chosen, placed, rules)
        for found in searches
        if found.chosen
        for placed in found.chosen.pools
    }
    return tuple(planned[pool.name] for pool in stack.pools)


def _pool(stack: Stack, found: Search, option: Option, placed: Placed, rules: Rules) -> PoolPlan:
    wanted, pool = placed.wanted, placed.wanted.pool
    ways = ways_around(wanted, found.market, rules, option) if len(found.unit) == 1 else ()
    return PoolPlan(
        name=pool.name,
        role=pool.role,
        policy=pool.policy,
        replicas=option.replicas,
        aliases=tuple(pool.aliases),
        rollout=pool.rollout,
        settings=_settings(stack, option, placed),
        model=wanted.model.name,
        demand=pool.demand,
        objectives=pool.objectives,
        placement=_placement(option, placed, found),
        sizing=_sizing(stack, option, placed),
        predicted=placed.forecast,
        not_predicted=None if placed.forecast else "pooling models have no latency model",
        ways=ways,
        search=found,
        disaggregation=_disaggregation(option, placed),
    )


def _disaggregation(option: Option, placed: Placed) -> Disaggregation | None:
    moves = transfer(placed, option)
    if moves is None:
        return None
    assert placed.forecast and placed.forecast.parts, "a pool that is taken apart has a demand"
    return Disaggregation(placed.forecast.parts, moves)


def _group_name(option: Option) -> str:
    first = option.pools[0].wanted.pool
    return first.gpu_group or first.name


def _placement(option: Option, placed: Placed, found: Search) -> PoolPlacement:
    return PoolPlacement(
        node_group=_group_name(option),
        instance_type=option.offer.instance.name,
        gpu=option.offer.gpu.name,
        capacity=found.market.capacity,
        nodes=option.nodes,
        replicas_per_node=option.replicas_per_node,
        gpus_per_replica=option.split.gpus,
        tensor_parallel=option.split.tensor_parallel,
        pipeline_parallel=option.split.pipeline_parallel,
        quantization=placed.fit.checkpoint.quantization,
    )


def _sizing(stack: Stack, option: Option, placed: Placed) -> Sizing:
    fit, wanted = placed.fit, placed.wanted
    parts = placed.forecast.parts if placed.forecast else None
    # What a prefill worker has read it holds until it is fetched, and no longer.
    holding = parts.decode if parts else option.replicas
    return Sizing(
        context=wanted.context,
        weights_gib=wanted.model.weights(fit.engine.weights).total / 2**30,
        memory=fit.memory,
        max_concurrency=fit.at_context * holding,
        max_typical_concurrency=fit.at_typical_length * holding,
        kv_cache_tokens=None if fit.kv_tokens is None else fit.kv_tokens * holding,
        host=engine_need(wanted.pool, option.split.gpus, stack.cache),
        startup=startup(option, placed, owned=isinstance(stack.target, ExistingCluster)),
    )


def _settings(stack: Stack, option: Option, placed: Placed) -> EngineSettings:
    """The engine with everything that the plan decided, said explicitly."""
    wanted, fit = placed.wanted, placed.fit
    pool, model = wanted.pool, wanted.model
    generates = pool.role == "generate"
    template = model.chat_template
    decided = {
        "tensor_parallel": option.split.tensor_parallel,
        "pipeline_parallel": option.split.pipeline_parallel,
        "max_model_len": wanted.context,
        "memory_share": fit.memory.share,
        "max_num_seqs": fit.sequences if generates else pool.engine.max_num_seqs,
        "max_num_batched_tokens": fit.engine.batched_tokens,
        "max_queued_requests": pool.engine.max_queued_requests
        or most_unfinished(placed, option.replicas),
    }
    if generates:
        decided["tool_call_parser"] = pool.engine.tool_call_parser or model.tool_call_parser
        decided["reasoning_parser"] = pool.engine.reasoning_parser or model.reasoning_parser
        decided["chat_template"] = pool.engine.chat_template or (
            _TEMPLATES + template if template else None
        )
    transfer = None
    if pool.disaggregated:
        transfer = NixlTransfer("decode")
    elif stack.cache and generates:
        # A sidecar of each worker; containers share no /dev/shm, so both sides isolate their IPC.
        transfer = LmcacheTransfer(
            port=stack.cache.port,
            chunk_tokens=stack.cache.chunk_tokens,
            isolated_ipc=True,
        )
    return EngineSettings(
        model=pool.model if _is_folder(pool.model) else fit.checkpoint.repo,
        served_name=pool.name,
        role=pool.role,
        options=pool.engine.model_copy(update=decided),
        revision=pool.revision or fit.checkpoint.revision,
        kv_transfer=transfer,
    )


def _is_folder(model: str) -> bool:
    return model.startswith((".", "/", "~"))


def node_group(stack: Stack, option: Option) -> NodeGroup:
    """The nodes of a unit. A reservation's are in its zone, others in any of the cluster's."""
    capacity = option.pools[0].wanted.pool.capacity or OnDemand()
    zones: tuple[str, ...] = ()
    if isinstance(stack.target, EksTarget):
        zones = tuple(stack.target.zones)
        if isinstance(capacity, Reservation | CapacityBlock) and capacity.zone:
            zones = (capacity.zone,)
    return NodeGroup(
        name=_group_name(option),
        instance_type=option.offer.instance.name,
        nodes=option.nodes,
        capacity=capacity,
        zones=zones,
        pools=tuple(placed.wanted.pool.name for placed in option.pools),
        usd_per_hour=option.usd_per_hour,
    )
