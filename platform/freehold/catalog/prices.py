"""What a cluster costs beside its GPU nodes, one row each in `prices.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .reading import read_data


@dataclass(frozen=True)
class FixedPrice:
    """US dollars: an hour, or a GiB and month where the name says so. us-east-1."""

    usd: float
    source: str
    date: str
    unverified: bool = False


@dataclass(frozen=True)
class SystemNode:
    """A machine without GPUs."""

    name: str
    usd: float
    vcpu: int
    ram_gib: float
    source: str
    date: str


@cache
def load_prices() -> Mapping[str, FixedPrice]:
    """Prices by name, such as `eks_control_plane`."""
    rows = read_data("prices.yaml")
    return {
        name: FixedPrice(**{**row, "date": str(row["date"])})
        for name, row in rows.items()
        if name != "system_nodes"
    }


@cache
def load_system_nodes() -> Mapping[str, SystemNode]:
    """Machines without GPUs by instance type."""
    rows = read_data("prices.yaml")["system_nodes"]
    return {
        name: SystemNode(name=name, **{**row, "date": str(row["date"])})
        for name, row in rows.items()
    }
