"""One engine, fully said: what to serve, as whom, with which options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from freehold.config.engine import EngineOptions
from freehold.config.stack import Role

# LMCache 0.5.6 waits this long for its server before an operation counts as failed. Stock is 300 s,
# for which a dead cache would hold a request; 3 s with a 1 s heartbeat costs at most 1.5 s
# (measured 2026-11-23 with kill -9 of the server).
_LMCACHE_TIMEOUT_SECONDS = 3
_LMCACHE_HEARTBEAT_SECONDS = 1


@dataclass(frozen=True)
class LmcacheTransfer:
    """KV cache shared through an LMCache server (multi-process mode) on the same node."""

    host: str = "127.0.0.1"
    port: int = 5570
    isolated_ipc: bool = False
    """For containers that share no /dev/shm with the server; both sides must say so."""
    chunk_tokens: int = 128
    """The server's chunk size; it takes whole blocks of the engine only."""

    def config(self) -> dict[str, Any]:
        extra: dict[str, Any] = {
            "lmcache.mp.host": f"tcp://{self.host}",
            "lmcache.mp.port": self.port,
            "lmcache.mp.mq_timeout": _LMCACHE_TIMEOUT_SECONDS,
            "lmcache.mp.heartbeat_interval": _LMCACHE_HEARTBEAT_SECONDS,
        }
        if self.isolated_ipc:
            extra["lmcache.mp.isolated_ipc"] = True
        return {
            # Ours turns any error of the cache into a miss: stock takes the engine down with it.
            "kv_connector": "ResilientLMCacheConnector",
            "kv_connector_module_path": "freehold.engine.lmcache_connector",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "recompute",
            "kv_connector_extra_config": extra,
        }


@dataclass(frozen=True)
class NativeOffload:
    """vLLM's own offloading of KV blocks to host memory: no second process, nothing shared."""

    gib: float


@dataclass(frozen=True)
class NixlTransfer:
    """Hands the KV cache of a prefill worker to a decode worker (disaggregated prefill)."""

    role: Literal["prefill", "decode"]
    buffer_device: Literal["cuda", "cpu"] = "cuda"
    """`cpu` where the nodes have no RDMA (g6e)."""
    backends: tuple[str, ...] = ()
    """NIXL backends; `LIBFABRIC` on EFA."""

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "kv_connector": "NixlConnector",
            "kv_role": "kv_producer" if self.role == "prefill" else "kv_consumer",
            "kv_buffer_device": self.buffer_device,
            # A lost handoff cannot be recomputed for free: the client should hear of it.
            "kv_load_failure_policy": "fail",
        }
        if self.backends:
            config["kv_connector_extra_config"] = {"backends": list(self.backends)}
        return config


KvTransfer = LmcacheTransfer | NativeOffload | NixlTransfer


@dataclass(frozen=True)
class EngineSettings:
    """Everything that decides an engine's command line, but for where it listens."""

    model: str
    """A folder, a hub id, or an s3:// address."""
    served_name: str
    """What clients put in `model`."""
    role: Role
    options: EngineOptions
    revision: str | None = None
    kv_transfer: KvTransfer | None = None
    load_format: str | None = None
    """vLLM's --load-format; `runai_streamer` for s3:// addresses."""

    @property
    def transfer(self) -> KvTransfer | None:
        """Where KV blocks go besides the engine's own memory."""
        if self.kv_transfer is None and self.options.kv_offload_gib is not None:
            return NativeOffload(gib=self.options.kv_offload_gib)
        return self.kv_transfer


def as_json(value: Any) -> str:
    """Compact JSON with stable order: the same settings give the same command line."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
