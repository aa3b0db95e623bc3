"""The stack file's typed tree: what a user may ask for under `freehold:stack`.

Kept apart from the Plan on purpose: this says what is wanted, the Plan what will be done.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Model, Name, Port
from .bedrock import BedrockTarget
from .cache import KvCache, RedisCache
from .calibration import Calibration
from .capacity import Capacity, OnDemand
from .demand import Demand, Disaggregated, Objectives, Placement
from .engine import EngineOptions
from .gateway import Gateway, GatewayKey, Rollout
from .observability import Observability, Prometheus
from .target import EksTarget, ExistingCluster, LocalTarget

__all__ = [
    "Budget",
    "Gateway",
    "GatewayKey",
    "Hours",
    "KvCache",
    "LocalTarget",
    "ModelPool",
    "Name",
    "Observability",
    "Policy",
    "Port",
    "Prometheus",
    "RedisCache",
    "Role",
    "Stack",
    "Target",
    "Tier",
    "Weights",
]

Role = Literal["generate", "embed", "rerank"]
Policy = Literal["prefix", "session", "least_request", "round_robin"]
Tier = Literal["small", "medium", "large"]
Weights = Literal["bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4"]
Target = Annotated[
    LocalTarget | EksTarget | ExistingCluster | BedrockTarget, Field(discriminator="kind")
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


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
    replicas: int = Field(
        default=1, ge=1, le=64, description="Local target only; elsewhere the plan decides."
    )
    policy: Policy = "prefix"
    aliases: list[str] = Field(default=[], description="Other names clients may put in `model`.")
    engine: EngineOptions = EngineOptions()
    quantization: Weights | None = Field(
        default=None,
        description="Of the weights. When absent the plan takes the cheapest of the published "
        "formats that lose next to nothing; 4 bits only where the model comes so, or when asked.",
    )
    context: int | None = Field(
        default=None, ge=16, description="Longest prompt plus answer, in tokens."
    )
    demand: Demand | None = None
    objectives: Objectives = Objectives()
    placement: Placement = Placement()
    capacity: Capacity | None = Field(default=None, description="The stack's when absent.")
    calibration: Calibration | None = Field(
        default=None, description="What a load test said of the predicted latency."
    )
    gpu_group: Name | None = Field(
        default=None, description="Pools that name the same group share one GPU."
    )
    disaggregated: Disaggregated | None = Field(
        default=None, description="Prompts are read and answers written by different workers."
    )
    rollout: Rollout | None = Field(
        default=None, description="Takes a share of the requests for another pool's name."
    )


class Hours(Model):
    """When GPU nodes run; outside they are scaled to zero. Everything else stays. On Bedrock: when
    the demand is there."""

    days: list[Day] = Field(min_length=1, max_length=7)
    start: str = Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    stop: str = Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", description="The same day.")
    timezone: str = "UTC"

    @property
    def a_week(self) -> float:
        """Hours a week that the GPUs run."""
        minutes = [int(time[:2]) * 60 + int(time[3:]) for time in (self.start, self.stop)]
        return len(set(self.days)) * (minutes[1] - minutes[0]) / 60


class Budget(Model):
    """A plan that costs more, all items together, is refused."""

    usd_per_month: float = Field(gt=0)


class Stack(Model):
    """One stack: everything under `freehold:stack` in `Pulumi.<stack>.yaml`."""

    extends: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] | None = Field(
        default=None,
        description="A stack whose keys this one takes over: maps merge, pools by name, "
        "everything else is replaced.",
    )
    target: Target
    tier: Tier | None = None
    pools: list[ModelPool] = Field(min_length=1)
    capacity: Capacity = OnDemand()
    cache: KvCache | None = None
    gateway: Gateway = Gateway()
    observability: Observability = Observability()
    ha: bool = Field(default=False, description="Each pool keeps answering when a zone is lost.")
    hours: Hours | None = Field(default=None, description="Always on when absent.")
    budget: Budget | None = None
    allowed_licences: list[str] | None = Field(
        default=None, description="As the catalog names them; any when absent."
    )
    engine_ports_from: Port = Field(
        default=8101, description="Engines of a local stack listen from this port on."
    )
