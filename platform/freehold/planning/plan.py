"""The Plan: what will be done, computed from what is wanted. Everything downstream reads it."""

from __future__ import annotations

from dataclasses import dataclass

from freehold.catalog.release import Release, load_release
from freehold.config.stack import (
    Gateway,
    KvCache,
    ModelPool,
    Observability,
    Policy,
    Role,
    Stack,
    Target,
)
from freehold.engine.settings import EngineSettings, KvTransfer, LmcacheTransfer


@dataclass(frozen=True)
class PoolPlan:
    """One served model: the engine that every replica runs, and how many there are."""

    name: str
    role: Role
    policy: Policy
    replicas: int
    aliases: tuple[str, ...]
    settings: EngineSettings
    fallback: str | None = None
    """Built-in model that stands in where the hub cannot be reached (local target only)."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the LoRA adapters served beside the base model."""
        return tuple(adapter.name for adapter in self.settings.options.lora)


@dataclass(frozen=True)
class Plan:
    stack: str
    target: Target
    pools: tuple[PoolPlan, ...]
    cache: KvCache | None
    gateway: Gateway
    observability: Observability
    engine_ports_from: int
    release: Release


def make_plan(name: str, stack: Stack) -> Plan:
    """A pure function: the same stack and catalog give the same Plan."""
    return Plan(
        stack=name,
        target=stack.target,
        pools=tuple(_pool(pool, stack.cache) for pool in stack.pools),
        cache=stack.cache,
        gateway=stack.gateway,
        observability=stack.observability,
        engine_ports_from=stack.engine_ports_from,
        release=load_release(),
    )


def _pool(pool: ModelPool, cache: KvCache | None) -> PoolPlan:
    transfer: KvTransfer | None = None
    if cache and pool.role == "generate":
        transfer = LmcacheTransfer(port=cache.port)
    settings = EngineSettings(
        model=pool.model,
        served_name=pool.name,
        role=pool.role,
        options=pool.engine,
        revision=pool.revision,
        kv_transfer=transfer,
    )
    return PoolPlan(
        name=pool.name,
        role=pool.role,
        policy=pool.policy,
        replicas=pool.replicas,
        aliases=tuple(pool.aliases),
        settings=settings,
        fallback=pool.fallback,
    )
