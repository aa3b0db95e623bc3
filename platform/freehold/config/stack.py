"""The stack file's typed tree: what a user may ask for under `freehold:stack`.

Kept apart from the Plan on purpose: this says what is wanted, the Plan what will be done.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Model
from .engine import EngineOptions

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""Lower-case letters, digits and dashes: it names pods, processes and metrics."""
Port = Annotated[int, Field(ge=1024, le=65535)]
Role = Literal["generate", "embed", "rerank"]
Policy = Literal["prefix", "session", "least_request", "round_robin"]


class LocalTarget(Model):
    """This machine: real processes, no container engine."""

    kind: Literal["local"]
    engine: Literal["vllm"] = "vllm"


Target = LocalTarget


class ModelPool(Model):
    """One served model and its replicas. Clients put `name` in the request's `model`."""

    name: Name
    role: Role
    model: str = Field(
        min_length=1,
        description="A catalog name, a hub id (org/name), or a folder (./path or /path).",
    )
    revision: str | None = Field(default=None, description="Hub commit; pin it.")
    fallback: str | None = Field(
        default=None,
        description="Built-in model for a machine that does not reach the hub (local target only).",
    )
    replicas: int = Field(default=1, ge=1, le=64)
    policy: Policy = "prefix"
    aliases: list[str] = Field(default=[], description="Other names clients may put in `model`.")
    engine: EngineOptions = EngineOptions()


class RedisCache(Model):
    """The cluster-wide tier behind every worker's LMCache."""

    port: Port = 6390
    memory_gib: float = Field(default=0.5, gt=0)


class KvCache(Model):
    """Tiers behind the worker's own KV memory. Automatic prefix caching is not a tier: it is
    always there unless an engine switches it off."""

    host_memory_gib: float = Field(default=1.0, gt=0, description="LMCache's memory a server.")
    chunk_tokens: int = Field(default=128, ge=16, description="Tokens an LMCache chunk.")
    port: Port = 5570
    redis: RedisCache | None = RedisCache()


class GatewayKey(Model):
    """A tenant's key. The secret itself is never in the stack file: it is generated, or read from
    the environment variable that `secret_env` names."""

    tenant: Name
    models: list[str] | None = Field(default=None, description="Allowed models; all when absent.")
    requests_per_minute: int | None = Field(default=None, ge=1)
    secret_env: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]*$")


class Gateway(Model):
    """The one door in front of every pool."""

    host: str = "127.0.0.1"
    port: Port = 8080
    keys: list[GatewayKey] = Field(default=[GatewayKey(tenant="default")], min_length=1)
    max_body_mib: int = Field(default=32, ge=1, le=512)


class Prometheus(Model):
    port: Port = 9091
    retention: str = Field(default="2d", pattern=r"^[0-9]+[hdw]$")


class Observability(Model):
    prometheus: Prometheus | None = Prometheus()


class Stack(Model):
    """One stack: everything under `freehold:stack` in `Pulumi.<stack>.yaml`."""

    target: Target
    pools: list[ModelPool] = Field(min_length=1)
    cache: KvCache | None = None
    gateway: Gateway = Gateway()
    observability: Observability = Observability()
    engine_ports_from: Port = Field(
        default=8101, description="Engines of a local stack listen from this port on."
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Stack:
        """Names that clients use must lead to one place only."""
        seen: dict[str, str] = {}
        for pool in self.pools:
            lora = [adapter.name for adapter in pool.engine.lora]
            for name in [pool.name, *pool.aliases, *lora]:
                if name in seen:
                    raise ValueError(
                        f'"{name}" names a model of pool {seen[name]} and of pool {pool.name}: '
                        "pool names, aliases and adapters must differ"
                    )
                seen[name] = pool.name
        tenants = [key.tenant for key in self.gateway.keys]
        for tenant in tenants:
            if tenants.count(tenant) > 1:
                raise ValueError(f'tenant "{tenant}" has two keys: give each its own name')
        for key in self.gateway.keys:
            for model in key.models or []:
                if model not in seen:
                    known = ", ".join(sorted(seen))
                    raise ValueError(
                        f'key of tenant "{key.tenant}" allows the model "{model}", which no pool '
                        f"serves; served are: {known}"
                    )
        return self
