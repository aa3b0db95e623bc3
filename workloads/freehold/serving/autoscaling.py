"""How many workers a pool has: the plan's number, or a range that KEDA moves in.

The plan's replicas are those of its peak. Below it a pool of several shrinks with its load, so that
nodes go too; with `hours` all are there in them, and none outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from freehold.config.stack import Hours
from freehold.planning.plan import Plan, PoolPlan

from .names import Names, all_labels

# A worker is added while the requests of each are beyond this share of what its KV cache holds, so that
# the new one, minutes away, comes before the queue.
_LOAD_SHARE = 0.8
# vLLM preempts requests when its KV cache is full; above this share it is near.
_KV_SHARE = 0.85
# A worker that goes takes its cache along, and takes minutes to come back: only after a quarter of an
# hour of less load, one at a time, half an hour apart. Up: at once, then once in the time of a start.
_DOWN_WINDOW_SECONDS, _DOWN_PERIOD_SECONDS = 900, 1800
_CRON_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


@dataclass(frozen=True)
class PoolScaling:
    """The range of one pool, and what moves it."""

    pool: str
    least: int
    most: int
    hours: Hours | None
    requests_per_worker: float
    """Running and waiting; the pool has as many workers as the load is a multiple of this."""
    start_seconds: int


def pool_scaling(plan: Plan, pool: PoolPlan) -> PoolScaling | None:
    """None where the number is fixed. Machines that are owned cost the same idle, and one worker (two
    with `ha`) is always there."""
    assert pool.placement is not None and pool.sizing is not None
    if pool.disaggregation:
        return None  # one part more without the other is no more
    least = min(pool.replicas, 2 if plan.ha else 1)
    if plan.hours:
        least = 0
    elif (
        pool.placement.capacity in ("owned", "capacity_block", "reservation")  # paid, used or not
        or pool.role != "generate"
        or not plan.observability.prometheus
    ):
        return None
    if least == pool.replicas:
        return None
    return PoolScaling(
        pool=pool.name,
        least=least,
        most=pool.replicas,
        hours=plan.hours,
        requests_per_worker=max(
            1.0, _LOAD_SHARE * pool.sizing.max_typical_concurrency / pool.replicas
        ),
        start_seconds=round(pool.sizing.startup.total),
    )


def triggers(scaling: PoolScaling, names: Names) -> list[dict[str, Any]]:
    """With hours the clock alone decides: a queue at closing time must not keep the nodes."""
    if scaling.hours:
        return [_cron(scaling.hours, scaling.most)]
    # vLLM's own label; its value is the served name, which is the pool's.
    pool = f'{{model_name="{scaling.pool}"}}'
    load = f"sum(vllm:num_requests_running{pool}) + sum(vllm:num_requests_waiting{pool})"
    return [
        _prometheus(names, load, scaling.requests_per_worker),
        _prometheus(names, f"sum(vllm:kv_cache_usage_perc{pool})", _KV_SHARE),
    ]


def _prometheus(names: Names, query: str, per_worker: float) -> dict[str, Any]:
    """As many workers as `query` is a multiple of `per_worker`."""
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": names.prometheus_url,
            "query": query,
            "threshold": f"{per_worker:g}",
        },
    }


def _cron(hours: Hours, workers: int) -> dict[str, Any]:
    days = ",".join(str(day) for day in sorted({_CRON_DAYS[day] for day in hours.days}))

    def at(time: str) -> str:
        hour, minute = time.split(":")
        return f"{int(minute)} {int(hour)} * * {days}"

    return {
        "type": "cron",
        "metadata": {
            "timezone": hours.timezone,
            "start": at(hours.start),
            "end": at(hours.stop),
            "desiredReplicas": str(workers),
        },
    }


def scaled_object_spec(scaling: PoolScaling, names: Names) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": scaling.pool},
        "pollingInterval": 15,
        "minReplicaCount": scaling.least,
        "maxReplicaCount": scaling.most,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
        "triggers": triggers(scaling, names),
    }
    if not scaling.hours:
        # Nobody knows the load while Prometheus is away: the peak's number.
        spec["fallback"] = {"failureThreshold": 4, "replicas": scaling.most}
    return spec


def _behavior(scaling: PoolScaling) -> dict[str, Any]:
    up = {"type": "Pods", "value": 1, "periodSeconds": min(1800, max(60, scaling.start_seconds))}
    down = {"type": "Pods", "value": 1, "periodSeconds": _DOWN_PERIOD_SECONDS}
    if scaling.hours:
        everything = {"type": "Percent", "value": 100, "periodSeconds": 15}
        up = down = everything
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [up]},
        "scaleDown": {
            "stabilizationWindowSeconds": 0 if scaling.hours else _DOWN_WINDOW_SECONDS,
            "policies": [down],
        },
    }


def scaled_object(
    scaling: PoolScaling, names: Names, opts: pulumi.ResourceOptions
) -> k8s.apiextensions.CustomResource:
    return k8s.apiextensions.CustomResource(
        f"{scaling.pool}-scaling",
        api_version="keda.sh/v1alpha1",
        kind="ScaledObject",
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=scaling.pool,
            namespace=names.models,
            labels=all_labels("engine", scaling.pool),
        ),
        spec=scaled_object_spec(scaling, names),
        opts=opts,
    )
