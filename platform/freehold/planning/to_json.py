"""The Plan as plain data: what `freehold plan --json` prints and other programs rely on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from freehold.engine.command_line import command_line

from .break_even import BreakEven
from .cost import Cost, CostItem
from .forecast import Forecast
from .options import Option
from .plan_types import Disaggregation, HostedModel, NodeGroup, Plan, PoolPlan
from .sealing import SealingCost, sealing_cost
from .startup import Startup
from .trap import Way


def plan_to_json(plan: Plan, *, alternatives: bool = False) -> dict[str, Any]:
    """Keys keep their names and units from release to release; new ones may come."""
    return {
        "stack": plan.stack,
        "target": plan.target.kind,
        "tier": plan.tier,
        "ha": plan.ha,
        "pools": [
            pool_to_json(pool, alternatives=alternatives, sealing=sealing_cost(plan, pool))
            for pool in plan.pools
        ],
        "node_groups": [_node_group(group) for group in plan.node_groups],
        "cost": {
            **_cost(plan.cost),
            "break_even": [_break_even(one) for one in plan.break_even],
        },
        "single_points_of_failure": list(plan.single_points_of_failure),
        "warnings": list(plan.warnings),
        "release": dataclasses.asdict(plan.release),
    }


def pool_to_json(
    pool: PoolPlan, *, alternatives: bool, sealing: SealingCost | None = None
) -> dict[str, Any]:
    placement, sizing, options = pool.placement, pool.sizing, pool.settings.options
    data: dict[str, Any] = {
        "name": pool.name,
        "role": pool.role,
        "model": pool.model or pool.settings.model,
        "repository": pool.settings.model,
        "quantization": placement.quantization if placement else options.quantization,
        "instance_type": placement.instance_type if placement else None,
        "gpu": placement.gpu if placement else None,
        "capacity": placement.capacity if placement else None,
        "node_group": placement.node_group if placement else None,
        "nodes": placement.nodes if placement else 1,
        "replicas": pool.replicas,
        "gpus_per_replica": placement.gpus_per_replica if placement else 0,
        "tensor_parallel": options.tensor_parallel,
        "pipeline_parallel": options.pipeline_parallel,
        "max_model_len": pool.hosted.max_context if pool.hosted else options.max_model_len,
        "memory_gib": _memory(pool),
        "kv_cache_tokens": sizing.kv_cache_tokens if sizing else None,
        "max_concurrency": sizing.max_concurrency if sizing else None,
        "max_typical_concurrency": sizing.max_typical_concurrency if sizing else None,
        "host": dataclasses.asdict(sizing.host) if sizing else None,
        "startup_seconds": _startup(sizing.startup) if sizing else None,
        "demand": pool.demand.model_dump(exclude_none=True) if pool.demand else None,
        "objectives": pool.objectives.model_dump(exclude_none=True),
        "predicted": _forecast(pool.predicted) if pool.predicted else None,
        "not_predicted": pool.not_predicted,
        "engine_args": None if pool.hosted else command_line(pool.settings),
    }
    if pool.hosted:
        data |= {**dict.fromkeys(_OF_AN_ENGINE), "hosted": _hosted(pool.hosted)}
    if sealing:
        data["sealing"] = dataclasses.asdict(sealing)
    if pool.disaggregation:
        data["disaggregated"] = _disaggregated(pool, pool.disaggregation)
    if pool.rollout:
        data["rollout"] = pool.rollout.model_dump()
    if pool.ways:
        data["pcie_trap"] = [_way(way) for way in pool.ways]
    if alternatives and pool.search:
        found = [*pool.search.looked_at, *pool.search.too_dear]
        data["alternatives"] = [option_to_json(option) for option in found]
        data["misfits"] = {name: why[-1] for name, why in pool.search.misfits.items()}
    return data


# Null for a pool whose engine is somebody else's.
_OF_AN_ENGINE = (
    "repository",
    "quantization",
    "nodes",
    "replicas",
    "gpus_per_replica",
    "tensor_parallel",
    "pipeline_parallel",
)


def _hosted(hosted: HostedModel) -> dict[str, Any]:
    price = hosted.price
    return {
        "provider": hosted.provider,
        "id": hosted.id,
        "region": hosted.region,
        "requests_per_minute": round(hosted.requests_per_minute, 2),
        "usd_per_million_input_tokens": price.input if price else None,
        "usd_per_million_output_tokens": price.output if price else None,
        "price_date": price.date if price else None,
    }


def _disaggregated(pool: PoolPlan, apart: Disaggregation) -> dict[str, Any]:
    parts = {
        part: {"replicas": replicas, "engine_args": command_line(pool.settings_of(part))}
        for part, replicas in apart.replicas.items()
    }
    moves = {
        "gigabytes_per_request": round(apart.transfer.gigabytes, 4),
        "gbps": apart.transfer.gbps,
        "milliseconds": round(apart.transfer.seconds * 1e3, 1),
    }
    return {**parts, "transfer": moves}


def _memory(pool: PoolPlan) -> dict[str, float] | None:
    """GiB on the fullest GPU. The cache is rounded down, so that what is printed still fits."""
    if pool.sizing is None:
        return None
    memory = pool.sizing.memory
    parts = {
        "weights": round(memory.weights, 2),
        "kv_cache": math.floor(memory.kv_cache * 100) / 100,
        "activations": round(memory.activations, 2),
        "overhead": round(memory.overhead, 2),
    }
    return {
        **parts,
        "total": round(sum(parts.values()), 2),
        "available": round(memory.available, 2),
        "share": memory.share,
    }


def _startup(startup: Startup) -> dict[str, int]:
    parts = {key: round(value) for key, value in dataclasses.asdict(startup).items()}
    return {**parts, "total": sum(parts.values())}


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return {
        "concurrency": round(forecast.concurrency, 2),
        "median_ttft_ms": round(forecast.median_ttft_ms, 1),
        "median_tpot_ms": round(forecast.median_tpot_ms, 2),
        "median_itl_ms": round(forecast.median_itl_ms, 2),
        "output_throughput": round(forecast.output_throughput, 1),
        "total_token_throughput": round(forecast.total_token_throughput, 1),
        "request_throughput": round(forecast.request_throughput, 4),
        "max_concurrent_requests": math.ceil(forecast.max_concurrent_requests),
        "basis": forecast.basis,
        "ttft_band": [round(factor, 2) for factor in forecast.ttft_band],
        "tpot_band": [round(factor, 2) for factor in forecast.tpot_band],
    }


def option_to_json(option: Option) -> dict[str, Any]:
    return {
        "instance_type": option.offer.instance.name,
        "quantization": [placed.fit.checkpoint.quantization for placed in option.pools],
        "tensor_parallel": option.split.tensor_parallel,
        "pipeline_parallel": option.split.pipeline_parallel,
        "replicas": option.replicas,
        "nodes": option.nodes,
        "usd_per_hour": round(option.usd_per_hour, 5),
        "predicted": [
            _forecast(placed.forecast) if placed.forecast else None for placed in option.pools
        ],
        "output_tokens_per_second_per_dollar": _rounded(option.tokens_per_dollar),
        "problem": option.problem,
    }


def _way(way: Way) -> dict[str, Any]:
    if way.option is None:
        return {"way": way.name, "instance_type": way.machine, "problem": way.why_not}
    return {"way": way.name, **option_to_json(way.option)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _node_group(group: NodeGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "instance_type": group.instance_type,
        "nodes": group.nodes,
        "capacity": group.capacity.model_dump(mode="json", exclude_none=True),
        "zones": list(group.zones),
        "pools": list(group.pools),
        "usd_per_hour": round(group.usd_per_hour, 5),
    }


def _break_even(one: BreakEven) -> dict[str, Any]:
    tokens = ("tokens_per_month", "planned_tokens_per_month")
    return {
        key: round(value) if key in tokens else value
        for key, value in dataclasses.asdict(one).items()
    }


def _item(item: CostItem) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(item).items() if key != "tokens"}


def _cost(cost: Cost | None) -> dict[str, Any]:
    """The local target costs nothing that a plan knows of."""
    cost = cost or Cost(items=(), output_tokens_per_second=0.0, hours_per_month=0.0)
    return {
        "usd_per_hour": round(cost.usd_per_hour, 5),
        "usd_per_month": round(cost.usd_per_month, 2),
        "usd_per_million_output_tokens": _rounded(cost.usd_per_million_output_tokens),
        "gpu_usd_per_hour": round(cost.gpu_usd_per_hour, 5),
        "gpu_usd_per_month": round(cost.gpu_usd_per_month, 2),
        "gpu_usd_per_million_output_tokens": _rounded(cost.gpu_usd_per_million_output_tokens),
        "gpu_hours_per_month": round(cost.hours_per_month, 1),
        "items": [_item(item) for item in cost.items],
        "changes": [dataclasses.asdict(change) for change in cost.changes],
    }
