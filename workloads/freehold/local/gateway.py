"""The gateway and its picker as processes of this machine, for a whole stack or by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from freehold.gateway import envoy, launch
from freehold.gateway.model import (
    ENGINE_HEALTH,
    ROUTER_HEALTH,
    Address,
    ApiKey,
    Gateway,
    Pool,
    Worker,
)
from freehold.gateway.rollout import rollout_of
from freehold.planning.plan import Plan, PoolPlan

from .home import StackHome
from .hosted import CREDENTIALS, signing_environment
from .process import HealthCheck, ProcessSpec

HOST = "127.0.0.1"
# No client speaks to these ports; they follow the gateway's own.
ADMIN, _PICKER, PICKER_METRICS = 1, 2, 3


def gateway_of(plan: Plan, pools: Sequence[Pool], keys: Sequence[ApiKey], port: int) -> Gateway:
    """The gateway's own view of the plan, on `port` and the three that follow."""
    return Gateway(
        host=plan.gateway.host,
        port=port,
        admin_port=port + ADMIN,
        pools=tuple(pools),
        keys=tuple(keys),
        picker=None if all(pool.hosted for pool in pools) else (HOST, port + _PICKER),
        max_body_bytes=plan.gateway.max_body_mib * 2**20,
        sealed=plan.gateway.seals,
    )


def pool_of(pool: PoolPlan, workers: Sequence[Worker], served: Sequence[str] | None = None) -> Pool:
    """A pool of the plan before these workers. `served` are the names they know, the first of which
    answers to the pool's own name and aliases; the pool's name and its adapters when None."""
    models = tuple(served) if served else (pool.name, *pool.adapters)
    names = [name for name in (pool.name, *pool.aliases) if name not in models]
    return Pool(
        name=pool.name,
        role=pool.role,
        models=models,
        aliases=dict.fromkeys(names, models[0]),
        workers=tuple(workers),
        policy="least_request" if pool.disaggregation else pool.policy,
        health_path=ROUTER_HEALTH if pool.disaggregation else ENGINE_HEALTH,
        rollout=rollout_of(pool.rollout),
    )


def keys_of(plan: Plan, home: StackHome) -> list[ApiKey]:
    """Every tenant's key with its secret, which is made where there is none yet."""
    return [
        ApiKey(
            secret=home.secret_of(key, first=place == 0),
            tenant=key.tenant,
            models=tuple(key.models) if key.models is not None else None,
            requests_per_minute=key.requests_per_minute,
            cache_group=key.cache_group,
        )
        for place, key in enumerate(plan.gateway.keys)
    ]


def gateway_processes(gateway: Gateway, folder: Path) -> Iterator[ProcessSpec]:
    """The picker where there is one, then Envoy; their configuration goes into `folder`."""
    if gateway.picker:
        yield _picker(gateway, gateway.picker, folder)
    hosted = any(pool.hosted for pool in gateway.pools)
    config = folder / "envoy.json"
    yield ProcessSpec(
        name="gateway",
        role="gateway",
        argv=tuple(launch.envoy_argv(config)),
        files={str(config): json.dumps(envoy.bootstrap(gateway), indent=2)},
        env=signing_environment() if hosted else {},
        passed_env=CREDENTIALS if hosted else (),
        port=gateway.port,
        url=f"http://{gateway.host}:{gateway.port}",
        health=HealthCheck(url=f"http://{HOST}:{gateway.admin_port}/ready"),
        extra_ports=(gateway.admin_port,),
        stop_seconds=10.0,
        memory_gib=0.15,
    )


def _picker(gateway: Gateway, address: Address, folder: Path) -> ProcessSpec:
    picker = folder / "picker.json"
    picker_http = gateway.port + PICKER_METRICS
    return ProcessSpec(
        name="picker",
        role="picker",
        argv=tuple(launch.picker_argv(picker)),
        files={str(picker): json.dumps(launch.picker_config(gateway), indent=2)},
        port=address[1],
        url=f"http://{HOST}:{picker_http}",
        health=HealthCheck(url=f"http://{HOST}:{picker_http}/health"),
        extra_ports=(picker_http,),
        stop_seconds=5.0,
        memory_gib=0.1,
    )
