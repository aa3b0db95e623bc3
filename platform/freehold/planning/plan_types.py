"""The Plan: what will be done. Everything downstream reads it and recomputes nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from freehold.catalog.release import Release
from freehold.config.capacity import Capacity, CapacityKind, OnDemand
from freehold.config.demand import Demand, Objectives
from freehold.config.gateway import Rollout
from freehold.config.stack import (
    Budget,
    Gateway,
    Hours,
    KvCache,
    Observability,
    Policy,
    Role,
    Target,
    Tier,
)
from freehold.engine.settings import EngineSettings, NixlTransfer

if TYPE_CHECKING:  # a laptop's stack needs none of it
    from freehold.catalog.hosted import HostedPrice

    from .break_even import BreakEven
    from .cost import Cost
    from .disaggregation import Parts, Transfer
    from .forecast import Forecast
    from .host import HostNeed
    from .memory import Memory
    from .placement import Search
    from .startup import Startup
    from .trap import Way


@dataclass(frozen=True)
class PoolPlacement:
    """Where the replicas of a pool run. `nodes` are those of its node group."""

    node_group: str
    instance_type: str
    gpu: str
    capacity: CapacityKind
    nodes: int
    replicas_per_node: int
    gpus_per_replica: int
    tensor_parallel: int
    pipeline_parallel: int
    quantization: str


@dataclass(frozen=True)
class Sizing:
    """What one replica is and takes."""

    context: int
    weights_gib: float
    """Of the whole model, all ranks together: what a node downloads."""
    memory: Memory
    max_concurrency: int
    """Requests of the full context, over all replicas."""
    max_typical_concurrency: int
    """Requests of the demand's length, over all replicas."""
    kv_cache_tokens: int | None
    """Over all replicas, at the demand's length; None for an engine that keeps none."""
    host: HostNeed
    """Requests of a replica's pod, its cache sidecar included."""
    startup: Startup


@dataclass(frozen=True)
class NodeGroup:
    """Equal nodes with GPUs, and the pools that run on them."""

    name: str
    instance_type: str
    nodes: int
    capacity: Capacity
    zones: tuple[str, ...]
    pools: tuple[str, ...]
    usd_per_hour: float
    """All nodes together."""


@dataclass(frozen=True)
class HostedModel:
    """A model that somebody else serves, by the token."""

    provider: str
    id: str
    """What the provider calls it."""
    region: str
    max_context: int | None
    """Tokens; None for a model that the catalog lacks."""
    requests_per_minute: float
    """Of the demand, at its peak."""
    price: HostedPrice | None
    """None where nobody's figure is known: it is not in the cost."""


Part = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Disaggregation:
    """A pool whose prompts are read and whose answers are written by different workers."""

    parts: Parts
    transfer: Transfer

    @property
    def replicas(self) -> dict[Part, int]:
        return {"prefill": self.parts.prefill, "decode": self.parts.decode}


@dataclass(frozen=True)
class PoolPlan:
    """One served model: the engine that every replica runs, and how many there are."""

    name: str
    role: Role
    policy: Policy
    replicas: int
    aliases: tuple[str, ...]
    settings: EngineSettings
    rollout: Rollout | None = None
    """A share of another pool's requests comes here."""
    fallback: str | None = None
    """Built-in model that stands in where the hub cannot be reached (local target only)."""
    model: str | None = None
    """The catalog's name; None for a model that the catalog lacks."""
    demand: Demand | None = None
    objectives: Objectives = field(default_factory=Objectives)
    placement: PoolPlacement | None = None
    """None on the local target (this machine), and for a hosted model."""
    hosted: HostedModel | None = None
    """No engine of ours runs: of `settings` only model, name and role mean something."""
    sizing: Sizing | None = None
    """None on the local target, and for a hosted model."""
    predicted: Forecast | None = None
    not_predicted: str | None = None
    """Why there is no prediction."""
    ways: tuple[Way, ...] = field(default=(), compare=False)
    """The PCIe trap and the ways around it, where the pool is near it."""
    search: Search | None = field(default=None, compare=False, repr=False)
    """Everything that was considered."""
    disaggregation: Disaggregation | None = None
    """`replicas` are then those of both parts together, and `settings` are the decode workers'."""

    def settings_of(self, part: Part) -> EngineSettings:
        """Those of one part's workers, of a pool that is taken apart."""
        return dataclasses.replace(self.settings, kv_transfer=NixlTransfer(part))

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
    tier: Tier | None = None
    ha: bool = False
    hours: Hours | None = None
    capacity: Capacity = field(default_factory=OnDemand)
    node_groups: tuple[NodeGroup, ...] = ()
    budget: Budget | None = None
    cost: Cost | None = None
    """None on the local target, which costs nothing."""
    break_even: tuple[BreakEven, ...] = ()
    single_points_of_failure: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
