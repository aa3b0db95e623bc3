"""LMCache for engines: its server, as a sidecar of each or once a node, with the tiers behind it.

Any of it may be lost: engines wait for none of it to be ready, its health is no part of theirs, and
their connector turns its errors into misses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from freehold.config.stack import KvCache
from freehold.engine.cache_server import PASSWORD
from freehold.planning.host import HostNeed

from .names import CACHE_HTTP_PORT, CACHE_METRICS_PORT, REDIS_PORT, Names
from .pods import cpu, empty_dir, memory, mount
from .security import container_security

# What LMCache's server takes beside the memory that it is given (planning/host.py counts the same).
_SERVER_GIB, _SERVER_VCPU = 0.5, 0.5
# Of the disk tier's space; above it the least recently used tenth goes.
_DISK_WATERMARK, _DISK_EVICTED = 0.9, 0.1
_DISK = "/kv"
SECRET = "redis"
"""Secret with Redis's password, in the namespaces of engines and of Redis."""


@dataclass(frozen=True)
class RedisAddress:
    host: str
    port: int
    tls: bool
    own: bool
    """The stack's own; the user's otherwise, with a password only if they made the Secret."""


def redis_address(cache: KvCache, names: Names) -> RedisAddress | None:
    if cache.redis is None:
        return None
    if cache.redis.endpoint:
        return RedisAddress(cache.redis.endpoint, cache.redis.port, cache.redis.tls, own=False)
    return RedisAddress(names.redis_host(), REDIS_PORT, tls=False, own=True)


def cache_need(cache: KvCache) -> HostNeed:
    """The sidecar's part of what the plan sets aside for a replica's pod."""
    return HostNeed(_SERVER_VCPU, _SERVER_GIB + cache.host_memory_gib, cache.nvme_gib or 0.0)


def on_nodes(cache: KvCache | None) -> bool:
    """Whether each node has one server instead of each engine."""
    return cache is not None and cache.placement == "node"


def cache_warnings(cache: KvCache) -> Iterator[str]:
    if cache.redis and cache.redis.endpoint and not cache.redis.tls:
        yield (
            f"cache.redis: prompts' KV blocks go to {cache.redis.endpoint} in clear; set tls: true "
            "where it can"
        )
    elif cache.redis and not cache.redis.endpoint:
        yield "cache.redis: engines speak to the stack's own Redis in clear, inside the cluster"


def server_arguments(
    cache: KvCache, redis: RedisAddress | None, host: str = "127.0.0.1"
) -> list[str]:
    """Of `lmcache server`, without a secret: the password comes by environment."""
    arguments = [
        *("--host", host, "--port", str(cache.port)),
        *("--http-host", "0.0.0.0", "--http-port", str(CACHE_HTTP_PORT)),
        *("--prometheus-port", str(CACHE_METRICS_PORT)),
        # Containers of one pod have file systems of their own, so no /dev/shm in common.
        "--isolated-ipc",
        *("--l1-size-gb", f"{cache.host_memory_gib:g}"),
        *("--chunk-size", str(cache.chunk_tokens)),
        *("--eviction-policy", "LRU"),
    ]
    for adapter in _adapters(cache, redis):
        arguments += ["--l2-adapter", json.dumps(adapter, sort_keys=True)]
    return arguments


def _adapters(cache: KvCache, redis: RedisAddress | None) -> Iterator[dict[str, object]]:
    """Tiers behind host memory, in the order in which they are asked."""
    if cache.nvme_gib:
        yield {
            "type": "fs_native",
            "base_path": _DISK,
            "max_capacity_gb": cache.nvme_gib,
            # Without it the capacity is a number and no bound (LMCache 0.5.6, fs_native).
            "eviction": {
                "eviction_policy": "LRU",
                "trigger_watermark": _DISK_WATERMARK,
                "eviction_ratio": _DISK_EVICTED,
            },
        }
    if redis and redis.tls:  # `resp` knows no TLS
        nodes = f"{redis.host}:{redis.port}"
        yield {"type": "valkey", "startup_nodes": nodes, "tls_enable": True}
    elif redis:
        yield {"type": "resp", "host": redis.host, "port": redis.port}


def cache_sidecar(
    cache: KvCache, redis: RedisAddress | None, image: pulumi.Input[str]
) -> k8s.core.v1.ContainerArgs:
    """LMCache's server as a native sidecar: there before the engine, gone after it, restarted by
    itself. No readiness and no startup probe: an engine without a cache is a slower engine."""
    container = cache_container(cache, server_arguments(cache, redis), redis, image)
    container.restart_policy = "Always"
    return container


def cache_container(
    cache: KvCache,
    arguments: list[str],
    redis: RedisAddress | None,
    image: pulumi.Input[str],
    security: k8s.core.v1.SecurityContextArgs | None = None,
) -> k8s.core.v1.ContainerArgs:
    need = cache_need(cache)
    mounts = [mount("cache-shm", "/dev/shm"), mount("cache-tmp", "/tmp")]
    if cache.nvme_gib:
        mounts.append(mount("kv", _DISK))
    return k8s.core.v1.ContainerArgs(
        name="cache",
        image=image,
        command=["python3", "-m", "freehold.engine.cache_server"],
        args=arguments,
        env=_environment(redis),
        ports=[
            k8s.core.v1.ContainerPortArgs(name="cache-metrics", container_port=CACHE_METRICS_PORT)
        ],
        liveness_probe=k8s.core.v1.ProbeArgs(
            http_get=k8s.core.v1.HTTPGetActionArgs(path="/healthcheck", port=CACHE_HTTP_PORT),
            initial_delay_seconds=120,  # a cold start took 25 s on two busy cores (2026-11-23)
            period_seconds=10,
            timeout_seconds=5,
            failure_threshold=3,
        ),
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests=_requests(need), limits={"memory": memory(need.ram_gib)}
        ),
        security_context=security or container_security(),
        volume_mounts=mounts,
    )


def _environment(redis: RedisAddress | None) -> list[k8s.core.v1.EnvVarArgs]:
    found = [
        k8s.core.v1.EnvVarArgs(name=name, value=value)
        for name, value in {
            # It moves blocks in and out of the engine's GPUs, which the engine alone asks for.
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            "LMCACHE_TRACK_USAGE": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONHASHSEED": "0",
            "HOME": "/tmp",
        }.items()
    ]
    if redis:
        source = k8s.core.v1.SecretKeySelectorArgs(
            name=SECRET, key="password", optional=not redis.own
        )
        found.append(
            k8s.core.v1.EnvVarArgs(
                name=PASSWORD,
                value_from=k8s.core.v1.EnvVarSourceArgs(secret_key_ref=source),
            )
        )
    return found


def cache_volumes(cache: KvCache) -> list[k8s.core.v1.VolumeArgs]:
    volumes = [
        empty_dir("cache-shm", memory(cache.host_memory_gib + _SERVER_GIB), medium="Memory"),
        empty_dir("cache-tmp", "1Gi"),
    ]
    if cache.nvme_gib:
        volumes.append(empty_dir("kv", memory(cache.nvme_gib)))
    return volumes


def _requests(need: HostNeed) -> dict[str, str]:
    found = {"cpu": cpu(need.vcpu), "memory": memory(need.ram_gib)}
    if need.nvme_gib:
        found["ephemeral-storage"] = memory(need.nvme_gib)
    return found
