"""An option: one way to place a pool, or several pools that share a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from freehold.config.cache import KvCache
from freehold.config.demand import Placement

from .forecast import Forecast
from .market import Offer
from .memory import Split
from .sizing import Fit, Wanted


@dataclass(frozen=True)
class Rules:
    """What holds for every pool of the stack."""

    ha: bool = False
    cache: KvCache | None = None
    """Each engine that generates has an LMCache sidecar of this size; None: no sidecar."""


@dataclass(frozen=True)
class Placed:
    """One pool of an option."""

    wanted: Wanted
    fit: Fit
    forecast: Forecast | None
    """None for pools without a demand, and before the option was looked at closely."""


@dataclass(frozen=True)
class Option:
    """One way to place a unit: a pool, or several pools on one GPU."""

    offer: Offer
    split: Split
    pools: tuple[Placed, ...]
    replicas: int
    replicas_per_node: int
    nodes: int
    problem: str | None = None
    """Why it will not do; None: it will."""

    @property
    def usd_per_hour(self) -> float:
        return self.nodes * self.offer.usd_per_hour

    @property
    def output_throughput(self) -> float:
        return sum(p.forecast.output_throughput for p in self.pools if p.forecast)

    @property
    def tokens_per_dollar(self) -> float | None:
        """Output tokens a second for each dollar an hour; None where nothing was forecast."""
        if not self.output_throughput or not self.usd_per_hour:
            return None
        return self.output_throughput / self.usd_per_hour

    @property
    def rank(self) -> tuple[float, int, float, str]:
        """Smaller is better."""
        distance = sum(p.wanted.checkpoints.index(p.fit.checkpoint) for p in self.pools)
        return self.usd_per_hour, distance, -self.output_throughput, self.offer.instance.name


def pinned(pools: Sequence[Placed | Wanted]) -> Placement:
    """What the stack file pins, over the pools of a unit."""
    merged = Placement()
    for item in pools:
        wanted = item.wanted if isinstance(item, Placed) else item
        said = wanted.pool.placement.model_dump(exclude_none=True)
        if apart := wanted.pool.disaggregated:
            # NIXL moves no KV cache of pipeline stages (vLLM 0.32).
            said |= {"replicas": apart.replicas, "pipeline_parallel": 1}
        merged = merged.model_copy(update=said)
    return merged
