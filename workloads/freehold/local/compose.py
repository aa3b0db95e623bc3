"""From the Plan to the processes of a stack on this machine: what runs, with which files and ports.

The engine's command line and the gateway's configuration come from the same builders as on a
cluster; only what is true of this machine alone (ports, folders, environment) is decided here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from freehold.config.errors import FreeholdError
from freehold.config.stack import KvCache
from freehold.engine.command_line import command_line
from freehold.engine.settings import EngineSettings, LmcacheTransfer
from freehold.gateway.model import ROUTER_HEALTH, Pool, Worker
from freehold.gateway.prefill_decode import PrefillDecode, router_arguments, router_program
from freehold.monitoring.on_this_machine import grafana_argv, grafana_files, prometheus_files
from freehold.monitoring.scrape import SCRAPE_SECONDS, Target
from freehold.planning.plan import Plan, PoolPlan
from freehold.planning.plan_types import Part

from . import simulated
from .gateway import (
    ADMIN,
    HOST,
    PICKER_METRICS,
    gateway_of,
    gateway_processes,
    keys_of,
    pool_of,
)
from .home import StackHome
from .hosted import hosted_pools
from .process import HealthCheck, ProcessSpec
from .tools import library_environment

# Shorter windows need more scrapes.
_REHEARSAL_SCRAPE_SECONDS = 1.0
# LMCache's HTTP port (health, metrics), which no client speaks to, follows its message port.
_LMCACHE_HTTP = 1

# Memory of one vLLM CPU replica of the tiny model without its KV cache, API server and engine core
# together, and of each further rank (resident sizes on 2026-11-23, vLLM 0.32: 0.9 + 1.4 GiB, 1.4 GiB;
# about a third of it is library pages that all replicas share).
_ENGINE_GIB = 1.6
_RANK_GIB = 1.0
# The router's two ports, requests and metrics, follow its engines'.
_ROUTER_PORTS = 2
# It listens when its engines do, which a rehearsal lets load for a while.
_ROUTER_STARTUP_SECONDS = 180.0
# A cold start of four engines at once on two cores takes 200 s (measured 2026-11-23); three times that.
_ENGINE_STARTUP_SECONDS = 600.0


@dataclass(frozen=True)
class _Engine:
    """One replica of a pool and where it listens."""

    pool: PoolPlan
    index: int
    port: int
    part: Part | None = None
    """Of a pool that is taken apart."""

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.pool.name, self.part, str(self.index))))

    @property
    def settings(self) -> EngineSettings:
        return self.pool.settings_of(self.part) if self.part else self.pool.settings


def compose(
    plan: Plan, settings: Mapping[str, EngineSettings], tools: Mapping[str, Path], home: StackHome
) -> list[ProcessSpec]:
    """Every process of the stack, each after what it needs.

    `settings` are each pool's with its models in local folders; `tools` are the programs that no
    Python package carries.
    """
    engines = engines_of(plan, home)
    specs = [
        _engine(engine, settings[engine.pool.name], plan.cache, library_environment(tools))
        for engine in engines
    ]
    if plan.cache:
        specs += _cache(plan.cache, tools, home)
    return specs + _around(plan, engines, tools, home)


def compose_simulated(
    plan: Plan, tools: Mapping[str, Path], home: StackHome, window_divisor: float = 1.0
) -> list[ProcessSpec]:
    """The same with simulated engines: no model on disk, no GPU, no Redis.

    A rehearsal of minutes stands for hours: `window_divisor` shortens the windows of all rules, and
    gives engines a time of loading that is as much shorter than the planned one.
    """
    engines = engines_of(plan, home)
    http = plan.cache.port + _LMCACHE_HTTP if plan.cache else 0
    specs = list(simulated.processes(plan, engines, home, http, window_divisor))
    specs += [_router(plan, pool, engines) for pool in plan.pools if pool.disaggregation]
    return specs + _around(plan, engines, tools, home, window_divisor)


def compose_hosted(plan: Plan, home: StackHome) -> list[ProcessSpec]:
    """Only the gateway: Bedrock runs the engines."""
    return list(_door(plan, hosted_pools(plan), home))


def _around(
    plan: Plan,
    engines: list[_Engine],
    tools: Mapping[str, Path],
    home: StackHome,
    window_divisor: float = 1.0,
) -> list[ProcessSpec]:
    """What stands around the engines, whatever they are."""
    specs = list(_gateway(plan, home))
    if plan.observability.prometheus:
        specs.append(_prometheus(plan, engines, tools, home, window_divisor))
        specs += _grafana(plan.observability.prometheus.port, home)
    return specs


def engines_of(plan: Plan, home: StackHome) -> list[_Engine]:
    """Every engine and where it listens. Each pool has a row of ports and keeps it whatever happens to the
    others, so that a change of one pool restarts no other."""
    rows = home.port_rows([pool.name for pool in plan.pools])
    width = max(16, *(_ports_of(pool) for pool in plan.pools))
    return [
        _Engine(pool, index, plan.engine_ports_from + width * rows[pool.name] + place, part)
        for pool in plan.pools
        for place, (part, index) in enumerate(_replicas(pool))
    ]


def _ports_of(pool: PoolPlan) -> int:
    return pool.replicas + (_ROUTER_PORTS if pool.disaggregation else 0)


def _replicas(pool: PoolPlan) -> Iterator[tuple[Part | None, int]]:
    """Each replica's part and number, in the order of their ports."""
    parts = pool.disaggregation.replicas if pool.disaggregation else {None: pool.replicas}
    for part, replicas in parts.items():
        for index in range(replicas):
            yield part, index


def workers_of(plan: Plan, home: StackHome) -> dict[str, list[Worker]]:
    """Where the gateway finds each pool: its engines, or the router before them."""
    engines = engines_of(plan, home)
    workers: dict[str, list[Worker]] = {pool.name: [] for pool in plan.pools}
    for pool in plan.pools:
        if pool.disaggregation:
            workers[pool.name].append(
                Worker(_router_name(pool), *_router_of(pool, engines).address)
            )
    for engine in engines:
        if engine.part is None:
            workers[engine.pool.name].append(Worker(engine.name, HOST, engine.port))
    return workers


def _router_name(pool: PoolPlan) -> str:
    return f"{pool.name}-router"


def _router_of(pool: PoolPlan, engines: list[_Engine]) -> PrefillDecode:
    """It listens on the two ports after its engines'."""
    mine = [engine for engine in engines if engine.pool is pool]
    after = max(engine.port for engine in mine) + 1

    def addresses(part: Part) -> tuple[tuple[str, int], ...]:
        return tuple((HOST, engine.port) for engine in mine if engine.part == part)

    return PrefillDecode(
        address=(HOST, after),
        metrics=(HOST, after + 1),
        prefill=addresses("prefill"),
        decode=addresses("decode"),
    )


def _router(plan: Plan, pool: PoolPlan, engines: list[_Engine]) -> ProcessSpec:
    """vLLM's own, with the command line that it has in its pod."""
    program = router_program()
    if not Path(program).exists():
        raise FreeholdError(
            f"pool {pool.name} of stack {plan.stack} is disaggregated: rehearsing it takes vllm-router, "
            "which is installed with the engine: make env-cpu"
        )
    pair = _router_of(pool, engines)
    url = f"http://{HOST}:{pair.address[1]}"
    return ProcessSpec(
        name=_router_name(pool),
        role="router",
        pool=pool.name,
        argv=(program, *router_arguments(pair)),
        port=pair.address[1],
        url=url,
        health=HealthCheck(url=f"{url}{ROUTER_HEALTH}"),
        extra_ports=(pair.metrics[1],),
        startup_seconds=_ROUTER_STARTUP_SECONDS,
        stop_seconds=5.0,
        memory_gib=0.1,
    )


def _engine(
    engine: _Engine,
    settings: EngineSettings,
    cache: KvCache | None,
    libraries: Mapping[str, str],
) -> ProcessSpec:
    options = settings.options
    uses_cache = cache is not None and isinstance(settings.kv_transfer, LmcacheTransfer)
    ranks = options.tensor_parallel * options.pipeline_parallel
    url = f"http://{HOST}:{engine.port}"
    return ProcessSpec(
        name=engine.name,
        role="engine",
        pool=engine.pool.name,
        argv=(
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            *command_line(settings),
            "--host",
            HOST,
            "--port",
            str(engine.port),
        ),
        env={**_ENGINE_ENVIRONMENT, **_rank_environment(ranks), **libraries},
        port=engine.port,
        url=url,
        health=HealthCheck(url=f"{url}/health"),
        after=("cache",) if uses_cache else (),
        startup_seconds=_ENGINE_STARTUP_SECONDS,
        stop_seconds=(options.shutdown_timeout or 0) + 10.0,
        memory_gib=_ENGINE_GIB + _RANK_GIB * (ranks - 1) + (options.kv_cache_gib or 0.0),
    )


_ENGINE_ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",  # models are on disk by now; nothing may be fetched behind the plan's back
    "VLLM_HOST_IP": HOST,  # ranks of one engine talk over loopback, not over the machine's address
    "PYTHONHASHSEED": "0",  # prefix hashes must agree between workers and LMCache
    "LMCACHE_TRACK_USAGE": "false",
}


def _rank_environment(ranks: int) -> dict[str, str]:
    if ranks == 1:
        # The CPU build runs each rank in a process of its own, to set up its threads; a single rank
        # needs no more than the engine core's process, which saves the third import of vLLM: ready in
        # 39 s instead of 73 s alone, and 1 GB less (measured 2026-11-23 on two cores, same answers).
        return {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    # vLLM gives each rank a NUMA node and refuses more ranks than nodes; here they share the cores.
    cores = sorted(os.sched_getaffinity(0))
    if ranks > len(cores):
        return {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    shares = (cores[rank::ranks] for rank in range(ranks))
    return {"VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, own)) for own in shares)}


def _cache(cache: KvCache, tools: Mapping[str, Path], home: StackHome) -> Iterator[ProcessSpec]:
    adapter: list[str] = []
    if cache.redis:
        yield _redis(cache.redis.port, cache.redis.memory_gib, tools, home)
        redis = {"type": "resp", "host": HOST, "port": cache.redis.port}
        adapter = ["--l2-adapter", json.dumps(redis)]
    http = cache.port + _LMCACHE_HTTP
    yield ProcessSpec(
        name="cache",
        role="cache",
        argv=(
            str(Path(sys.executable).with_name("lmcache")),
            "server",
            *("--host", HOST, "--port", str(cache.port)),
            *("--http-host", HOST, "--http-port", str(http)),
            *("--supported-transfer-mode", "auto"),
            *("--shm-name", shared_memory_name(home)),
            *("--l1-size-gb", f"{cache.host_memory_gib:g}"),
            *("--chunk-size", str(cache.chunk_tokens)),
            *("--eviction-policy", "LRU"),
            *adapter,
        ),
        env={"LMCACHE_TRACK_USAGE": "false", "PYTHONHASHSEED": "0", "DO_NOT_TRACK": "1"},
        port=cache.port,
        url=f"http://{HOST}:{http}",
        health=HealthCheck(url=f"http://{HOST}:{http}/healthcheck"),
        after=("redis",) if cache.redis else (),
        startup_seconds=180.0,
        extra_ports=(http,),
        stop_seconds=10.0,
        memory_gib=0.6 + cache.host_memory_gib,
        shm_gib=cache.host_memory_gib,
        shared_memory=(f"*{shared_memory_name(home)}*",),
    )


def shared_memory_name(home: StackHome) -> str:
    """LMCache's shared-memory pool: one name a checkout and stack, so that two do not meet."""
    return "freehold_" + hashlib.sha256(str(home.folder).encode()).hexdigest()[:12]


def _redis(port: int, memory_gib: float, tools: Mapping[str, Path], home: StackHome) -> ProcessSpec:
    # A cache, not a store: no persistence, least recently used goes first.
    settings = {
        "bind": HOST,
        "port": port,
        "save": '""',
        "appendonly": "no",
        "maxmemory": int(memory_gib * 2**30),
        "maxmemory-policy": "allkeys-lru",
        "dir": home.folder,
    }
    config = home.folder / "redis.conf"
    return ProcessSpec(
        name="redis",
        role="redis",
        argv=(str(tools["redis-server"]), str(config)),
        files={str(config): "".join(f"{key} {value}\n" for key, value in settings.items())},
        port=port,
        health=HealthCheck(tcp=(HOST, port)),
        stop_seconds=5.0,
        memory_gib=0.05 + memory_gib,
    )


def _gateway(plan: Plan, home: StackHome) -> Iterator[ProcessSpec]:
    workers = workers_of(plan, home)
    pools = [pool_of(pool, workers[pool.name]) for pool in plan.pools]
    yield from _door(plan, pools, home)


def _door(plan: Plan, pools: list[Pool], home: StackHome) -> Iterator[ProcessSpec]:
    gateway = gateway_of(plan, pools, keys_of(plan, home), plan.gateway.port)
    yield from gateway_processes(gateway, home.folder)


def _prometheus(
    plan: Plan,
    engines: list[_Engine],
    tools: Mapping[str, Path],
    home: StackHome,
    window_divisor: float,
) -> ProcessSpec:
    wanted = plan.observability.prometheus
    assert wanted is not None
    targets = [
        Target("engine", f"{HOST}:{e.port}", pool=e.pool.name, worker=e.name) for e in engines
    ]
    port = plan.gateway.port
    targets.append(Target("gateway", f"{HOST}:{port + ADMIN}", path="/stats/prometheus"))
    targets.append(Target("picker", f"{HOST}:{port + PICKER_METRICS}"))
    if plan.cache:
        targets.append(Target("cache", f"{HOST}:{plan.cache.port + _LMCACHE_HTTP}"))
    targets.append(Target("prometheus", f"{HOST}:{wanted.port}"))
    config = home.folder / "prometheus.yml"
    url = f"http://{HOST}:{wanted.port}"
    return ProcessSpec(
        name="prometheus",
        role="prometheus",
        argv=(
            str(tools["prometheus"]),
            f"--config.file={config}",
            f"--storage.tsdb.path={home.folder / 'prometheus'}",
            f"--storage.tsdb.retention.time={wanted.retention}",
            f"--web.listen-address={HOST}:{wanted.port}",
        ),
        files=prometheus_files(
            plan,
            targets,
            home.folder,
            divisor=window_divisor,
            scrape_seconds=SCRAPE_SECONDS if window_divisor == 1 else _REHEARSAL_SCRAPE_SECONDS,
        ),
        reload="hup",
        port=wanted.port,
        url=url,
        health=HealthCheck(url=f"{url}/-/ready"),
        stop_seconds=10.0,
        memory_gib=0.1,
    )


def _grafana(prometheus_port: int, home: StackHome) -> Iterator[ProcessSpec]:
    """Where it is installed; it listens on the port after Prometheus's."""
    port = prometheus_port + 1
    files = grafana_files(f"http://{HOST}:{prometheus_port}", home.folder, HOST, port)
    if argv := grafana_argv(files):
        url = f"http://{HOST}:{port}"
        yield ProcessSpec(
            name="grafana",
            role="grafana",
            argv=tuple(argv),
            files=files,
            port=port,
            url=url,
            health=HealthCheck(url=f"{url}/api/health"),
            after=("prometheus",),
            stop_seconds=10.0,
            memory_gib=0.2,
        )
