"""Simulated engines instead of vLLM: the same command lines, in the time that the plan predicts.

Any stack runs so on this machine, whatever GPUs it is planned for: every pool and replica, before the
real gateway, with the shared KV cache played by one small server.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from freehold.config.stack import KvCache
from freehold.engine.command_line import command_line
from freehold.engine.settings import EngineSettings, LmcacheTransfer
from freehold.planning.forecast import deployment_of
from freehold.planning.plan import Plan, PoolPlan
from freehold.planning.speed import Deployment
from freehold.planning.speed.work import kv_bytes_per_token
from freehold.simulator.deployment import to_json
from freehold.simulator.settings import ENVIRONMENT, SharedTier

from .gateway import HOST
from .home import StackHome
from .models import LocalModel
from .process import HealthCheck, ProcessSpec

# A replica alone in its process: interpreter, catalog, latency model (loadtests/benchmarks/simulator,
# 2026-11-24: 43 MiB without the catalog; one more replica in the same process takes 1.4 MiB).
_PROCESS_GIB = 0.08
_REPLICA_GIB = 0.005
# Up to so many replicas each have a process of their own, which can be killed alone. More share
# processes: each start costs two cores the better part of a second.
_MOST_PROCESSES = 8
# Several times what starting takes on a busy machine, the divided time of loading included.
_START_SECONDS = 120.0
# What a worker's GPU gets from host memory: the line rate of 16 lanes of PCIe 4 and 5 (PCI-SIG: 16 and
# 32 GT/s a lane, 128b/130b), in GB/s. Real transfers are somewhat slower.
_PCIE4, _PCIE5 = 31.5, 63.0
_HOPPER = 90  # compute capability from which servers have PCIe 5


class _Engine(Protocol):
    @property
    def pool(self) -> PoolPlan: ...
    @property
    def index(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> EngineSettings: ...


def notes(plan: Plan) -> dict[str, LocalModel]:
    """What runs instead of each pool's model, and what a person should know of it."""
    return {pool.name: LocalModel(pool.settings, _note(pool)) for pool in plan.pools}


def _note(pool: PoolPlan) -> str:
    deployment = replica_of(pool)
    if deployment is None:
        return f"simulated {pool.settings.model}: words without meaning, at a made-up speed"
    ranks = deployment.tensor_parallel * deployment.pipeline_parallel
    where = f"{ranks} {deployment.gpu.name}" if ranks > 1 else deployment.gpu.name
    return f"simulated {pool.model} on {where}: words without meaning, at the predicted speed"


def processes(
    plan: Plan,
    engines: Sequence[_Engine],
    home: StackHome,
    cache_http: int,
    window_divisor: float = 1.0,
) -> Iterator[ProcessSpec]:
    """Every engine of the plan, and the shared tier when it has one."""
    each = math.ceil(len(engines) / _MOST_PROCESSES)
    for pool in plan.pools:
        mine = [engine for engine in engines if engine.pool is pool]
        text = json.dumps(scenario_of(plan, pool, window_divisor), indent=1)
        for start in range(0, len(mine), each):
            group = mine[start : start + each]
            yield (
                _alone(plan, group[0], home, text) if each == 1 else _fleet(plan, group, home, text)
            )
    if plan.cache:
        yield _tier(plan, plan.cache, cache_http)


def _alone(plan: Plan, engine: _Engine, home: StackHome, text: str) -> ProcessSpec:
    scenario = str(home.folder / f"simulator-{engine.pool.name}.json")
    spec = _spec(plan, [engine])
    return replace(
        spec,
        argv=(sys.executable, "-m", "freehold.simulator", *_arguments(engine)),
        env={ENVIRONMENT: scenario},
        files={scenario: text},
    )


def _fleet(plan: Plan, engines: Sequence[_Engine], home: StackHome, text: str) -> ProcessSpec:
    first, last = engines[0], engines[-1]
    scenario = str(home.folder / f"simulator-{first.pool.name}.json")
    config = str(home.folder / f"simulator-{first.name}.fleet.json")
    replicas = [{"arguments": _arguments(e), "scenario": scenario} for e in engines]
    return replace(
        _spec(plan, engines),
        name=first.name if first is last else f"{first.name}-to-{last.index}",
        argv=(sys.executable, "-m", "freehold.simulator.fleet", config),
        files={
            scenario: text,
            config: json.dumps(replicas, indent=1),
        },
        extra_ports=tuple(engine.port for engine in engines[1:]),
    )


def _spec(plan: Plan, engines: Sequence[_Engine]) -> ProcessSpec:
    """What a process of these engines is, whatever it is called with."""
    first, pool = engines[0], engines[0].pool
    url = f"http://{HOST}:{first.port}"
    uses_cache = plan.cache is not None and isinstance(pool.settings.kv_transfer, LmcacheTransfer)
    return ProcessSpec(
        name=first.name,
        role="engine",
        pool=pool.name,
        argv=(),
        port=first.port,
        url=url,
        health=HealthCheck(url=f"{url}/health"),
        after=("cache",) if uses_cache else (),
        startup_seconds=_START_SECONDS,
        stop_seconds=(pool.settings.options.shutdown_timeout or 0) + 5.0,
        memory_gib=_PROCESS_GIB + _REPLICA_GIB * len(engines),
    )


def _arguments(engine: _Engine) -> list[str]:
    return [
        *command_line(engine.settings),
        *("--host", HOST, "--port", str(engine.port)),
    ]


def scenario_of(plan: Plan, pool: PoolPlan, window_divisor: float = 1.0) -> dict[str, Any]:
    """What a replica must know that vLLM's command line does not say.

    Where the windows of rules are divided, so is the time that loading takes; else there is none.
    """
    scenario: dict[str, Any] = {"faults": True}
    if window_divisor > 1 and pool.sizing:
        start = pool.sizing.startup
        scenario["start_seconds"] = (start.weights + start.warm_up) / window_divisor
    deployment = replica_of(pool)
    if deployment is None:
        return scenario
    scenario["deployment"] = to_json(deployment)
    scenario["tokens_per_step"] = deployment.speculation.tokens_per_step
    scenario["dimensions"] = deployment.model.hidden
    if pool.sizing and deployment.kv_budget_tokens:
        # Counted in typical requests; a model with windows holds a longer one all the same.
        scenario["kv_tokens"] = max(deployment.kv_budget_tokens, pool.sizing.context)
    if pool.disaggregation and pool.demand:
        moves = pool.disaggregation.transfer
        scenario["handover"] = {
            "bytes_per_token": moves.gigabytes * 1e9 / pool.demand.input_tokens,
            "gigabytes_per_second": moves.gbps / 8,
        }
    elif plan.cache:
        speed = _PCIE5 if deployment.gpu.sm >= _HOPPER else _PCIE4
        scenario["shared_tier"] = {
            "bytes_per_token": _token_bytes(deployment),
            "gigabytes_per_second": speed * deployment.tensor_parallel,
        }
    return scenario


def replica_of(pool: PoolPlan) -> Deployment | None:
    """The replica as the plan has computed with it; None for a pool that it has not placed."""
    chosen = pool.search.chosen if pool.search else None
    if chosen is None:
        return None
    placed = next(placed for placed in chosen.pools if placed.wanted.pool.name == pool.name)
    return deployment_of(placed.wanted, placed.fit)


def _token_bytes(deployment: Deployment) -> float:
    """KV bytes of one token in the shared tier: every rank's part, or the one copy of a latent."""
    latent = any(group.kind == "mla" for group in deployment.model.attention)
    ranks = 1 if latent else deployment.tensor_parallel
    return kv_bytes_per_token(deployment) * ranks


def _tier(plan: Plan, cache: KvCache, http: int) -> ProcessSpec:
    """One server for what on a cluster are a sidecar of each worker and Redis behind them."""
    users = [pool for pool in plan.pools if isinstance(pool.settings.kv_transfer, LmcacheTransfer)]
    deployments = [found for pool in users if (found := replica_of(pool))]
    each = max(map(_token_bytes, deployments), default=SharedTier.bytes_per_token)
    sidecars = sum(pool.replicas for pool in users) if deployments else 1
    gib = cache.host_memory_gib * sidecars + (cache.nvme_gib or 0.0) * sidecars
    gib += cache.redis.memory_gib if cache.redis else 0.0
    return ProcessSpec(
        name="cache",
        role="cache",
        argv=(
            *(sys.executable, "-m", "freehold.simulator.shared_tier"),
            *("--host", HOST, "--port", str(cache.port), "--http-port", str(http)),
            *("--chunk-size", str(cache.chunk_tokens)),
            *("--capacity-tokens", str(int(gib * 2**30 / each))),
            *(["--redis"] if cache.redis else []),
        ),
        port=cache.port,
        url=f"http://{HOST}:{http}",
        health=HealthCheck(url=f"http://{HOST}:{http}/healthcheck"),
        extra_ports=(http,),
        startup_seconds=30.0,
        stop_seconds=5.0,
        memory_gib=_PROCESS_GIB,
    )
