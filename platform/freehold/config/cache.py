"""The KV cache's tiers behind the workers' own memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Model, Port


class RedisCache(Model):
    """The cluster-wide tier behind every worker's LMCache."""

    port: Port = 6390
    memory_gib: float = Field(default=0.5, gt=0)
    endpoint: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9.-]+$",
        description="Host of a Redis or ElastiCache that exists; the stack runs its own when absent.",
    )
    tls: bool = False


class KvCache(Model):
    """Tiers behind the worker's own KV memory. Automatic prefix caching is not a tier: it is
    always there unless an engine switches it off."""

    placement: Literal["sidecar", "node"] = Field(
        default="sidecar",
        description="On a cluster: a server beside each worker, or one a node, as large as those of "
        "its workers together and shared by them, in a privileged namespace.",
    )
    host_memory_gib: float = Field(default=1.0, gt=0, description="LMCache's memory a worker.")
    nvme_gib: float | None = Field(
        default=None, gt=0, description="LMCache's space on the node's own disk, a worker."
    )
    chunk_tokens: int = Field(default=128, ge=16, description="Tokens an LMCache chunk.")
    port: Port = 5570
    redis: RedisCache | None = RedisCache()
