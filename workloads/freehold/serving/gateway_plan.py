"""From the plan to the gateway's own view of it, on a cluster: the same model as on the laptop."""

from __future__ import annotations

import dataclasses

from freehold.gateway.model import (
    ENGINE_HEALTH,
    ROUTER_HEALTH,
    ApiKey,
    Certificate,
    Dns,
    Gateway,
    Pool,
)
from freehold.gateway.rollout import rollout_of
from freehold.planning.plan import Plan, PoolPlan

from .hosted import hosted_pool, runs_engines
from .names import (
    ADMIN_PORT,
    DOOR_PORT,
    ENGINE_PORT,
    PICKER_HTTP_PORT,
    PICKER_PORT,
    ROUTER_PORT,
    STATS_PORT,
    Names,
)

TLS_FOLDER = "/etc/freehold/tls"
PICKERS = ("a", "b")
"""The first serves; the second while the first is away."""
_IN_POD = "(in the pod)"


def gateway_of(plan: Plan, names: Names, *, own_certificate: bool) -> Gateway:
    """Without secrets: each tenant's key comes from its Secret when a pod starts."""
    certificate = Certificate(f"{TLS_FOLDER}/tls.crt", f"{TLS_FOLDER}/tls.key")
    first, standby = ((names.picker_host(which), PICKER_PORT) for which in PICKERS)
    return Gateway(
        host="0.0.0.0",
        port=DOOR_PORT,
        admin_port=ADMIN_PORT,
        stats=("0.0.0.0", STATS_PORT),
        pools=tuple(_pool(plan, pool, names) for pool in plan.pools),
        keys=tuple(
            ApiKey(
                secret=f"{_IN_POD} {key.tenant}",
                tenant=key.tenant,
                models=tuple(key.models) if key.models is not None else None,
                requests_per_minute=key.requests_per_minute,
                cache_group=key.cache_group,
            )
            for key in plan.gateway.keys
        ),
        picker=first if runs_engines(plan) else None,
        picker_standby=standby if runs_engines(plan) else None,
        certificate=certificate if own_certificate else None,
        drainable=True,
        replicas=replicas_of(plan),
        max_body_bytes=plan.gateway.max_body_mib * 2**20,
        sealed=plan.gateway.seals,
    )


def replicas_of(plan: Plan) -> int:
    """Two, so that one may go; what a tenant's limit is divided by."""
    return max(2, plan.gateway.replicas)


def picker_of(gateway: Gateway) -> Gateway:
    """As a picker sees it: where it listens itself."""
    return dataclasses.replace(
        gateway,
        picker=("0.0.0.0", PICKER_PORT),
        picker_http=("0.0.0.0", PICKER_HTTP_PORT),
        picker_standby=None,
    )


def _pool(plan: Plan, pool: PoolPlan, names: Names) -> Pool:
    if pool.hosted:
        return hosted_pool(plan, pool, pool.hosted)
    apart = pool.disaggregation is not None
    return Pool(
        name=pool.name,
        role=pool.role,
        models=(pool.name, *pool.adapters),
        aliases=dict.fromkeys(pool.aliases, pool.name),
        policy="least_request" if apart else pool.policy,
        discovery=Dns(names.router_host(pool.name), ROUTER_PORT)
        if apart
        else Dns(names.engine_host(pool.name), ENGINE_PORT),
        health_path=ROUTER_HEALTH if apart else ENGINE_HEALTH,
        start_seconds=_start_seconds(plan, pool),
        rollout=rollout_of(pool.rollout),
    )


def _start_seconds(plan: Plan, pool: PoolPlan) -> int | None:
    """From zero workers to an answer. The node has to come too where `hours` send it away."""
    if pool.sizing is None:
        return None
    startup = pool.sizing.startup
    return round(startup.total if plan.hours else startup.weights + startup.warm_up)
