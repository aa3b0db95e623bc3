"""EC2 instances with GPUs and their prices, one row each in `instances.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from .reading import read_data


@dataclass(frozen=True)
class Price:
    """US dollars an hour, and who said so when."""

    usd: float
    source: str
    date: str
    highest_unknown: bool = False
    """Spot only: the lowest price seen stands in, because no highest one is known."""


@dataclass(frozen=True)
class Instance:
    """One machine. `prices` are by capacity (`on_demand`, `spot`, `capacity_block`) and region."""

    name: str
    family: str
    gpu: str
    """A name in `gpus.yaml`."""
    gpus: int
    vcpu: int
    ram_gib: float
    nvme_gb: float
    network_gbps: float
    """Baseline, where it bursts."""
    efa: int
    max_pods: int
    capacity: tuple[str, ...]
    """How it is sold at all."""
    regions: tuple[str, ...]
    prices: Mapping[str, Mapping[str, Price]]
    spot_lowest: Mapping[str, float]
    instead: str | None
    """What to take where this is not sold that way."""
    source: str
    date: str
    unverified: tuple[str, ...] = ()
    count: int | None = None
    """Machines there are, of an existing cluster; None: as many as are bought."""

    def price(self, capacity: str, region: str) -> Price | None:
        """A reservation costs what On-Demand does; None where it is not sold or not known."""
        prices = self.prices.get("on_demand" if capacity == "reservation" else capacity, {})
        return prices.get(region)


@cache
def load_instances() -> Mapping[str, Instance]:
    """Every instance of the catalog by name."""
    data = read_data("instances.yaml")
    return {name: _instance(name, row, data) for name, row in data["instances"].items()}


def _instance(name: str, row: Mapping[str, Any], data: Mapping[str, Any]) -> Instance:
    family_name = name.partition(".")[0]
    family, sources = data["families"][family_name], data["sources"]
    specs = sources["karpenter-specs"]
    keys = ("gpu", "gpus", "vcpu", "ram_gib", "nvme_gb", "network_gbps", "efa", "max_pods")
    return Instance(
        name=name,
        family=family_name,
        **{key: row[key] for key in keys},
        capacity=tuple(family["capacity"]),
        regions=tuple(family["regions"]),
        prices=_prices(row, family, sources),
        spot_lowest={region: seen[0] for region, seen in row.get("spot", {}).items()},
        instead=family.get("instead"),
        source=specs["what"],
        date=str(specs["date"]),
        unverified=(*row.get("unverified", ()), *family.get("unverified", ())),
    )


def _prices(
    row: Mapping[str, Any], family: Mapping[str, Any], sources: Mapping[str, Any]
) -> dict[str, dict[str, Price]]:
    prices: dict[str, dict[str, Price]] = {}
    if "on_demand" in row:
        base = sources["karpenter-prices"]
        prices["on_demand"] = {
            region: Price(round(row["on_demand"] * factor, 5), base["what"], str(base["date"]))
            for region, factor in family["regions"].items()
        }
    if "spot" in row:
        seen = sources[row["spot_source"]]
        prices["spot"] = {
            region: Price(
                lowest if highest is None else highest,
                seen["what"],
                str(seen["date"]),
                highest is None,
            )
            for region, (lowest, highest) in row["spot"].items()
        }
    if "block" in row:
        block = sources[row["block_source"]]
        prices["capacity_block"] = {
            region: Price(row["block"], block["what"], str(block["date"]))
            for region in family["regions"]
        }
    return prices
