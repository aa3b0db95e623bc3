"""What can be had: instances, and their price for a way of buying in a place."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from freehold.catalog.gpus import Gpu, find_gpu, load_gpus
from freehold.catalog.instances import Instance, Price, load_instances
from freehold.config.capacity import CapacityKind
from freehold.config.errors import nearest
from freehold.config.target import EksTarget, ExistingCluster, GpuNodes

HOME_REGION = "us-east-1"
"""Whose prices the catalog knows best; they stand in elsewhere, with a warning."""

_SAID = {
    "on_demand": "on demand",
    "spot": "as Spot",
    "reservation": "by reservation",
    "capacity_block": "as a Capacity Block",
}


@dataclass(frozen=True)
class Offer:
    """An instance at a price."""

    instance: Instance
    gpu: Gpu
    usd_per_hour: float
    price: Price
    estimated: bool = False
    """Another region's price stands in."""


@dataclass(frozen=True)
class Market:
    """The offers for one way of buying, and why each other instance is none."""

    capacity: CapacityKind
    place: str
    """Region, or the name of the cluster."""
    offers: tuple[Offer, ...]
    refused: dict[str, str]
    """Instance -> why, and what to take instead."""

    def known(self) -> list[str]:
        return [*(offer.instance.name for offer in self.offers), *self.refused]


def ec2_market(target: EksTarget, capacity: CapacityKind) -> Market:
    """EC2 in the target's region."""
    offers: list[Offer] = []
    refused: dict[str, str] = {}
    gpus = load_gpus()
    for instance in load_instances().values():
        found = _ec2_offer(instance, gpus[instance.gpu], target.region, capacity)
        if isinstance(found, Offer):
            offers.append(found)
        else:
            refused[instance.name] = found
    return Market(capacity, target.region, tuple(offers), refused)


def _ec2_offer(instance: Instance, gpu: Gpu, region: str, capacity: CapacityKind) -> Offer | str:
    name = instance.name
    if capacity not in instance.capacity:
        ways = " or ".join(_SAID[way] for way in instance.capacity)
        instead = f"; {instance.instead} has the same GPUs {_SAID[capacity]}"
        instead = instead if instance.instead else ""
        return f"{name} is not sold {_SAID[capacity]}, only {ways}{instead}"
    if instance.instead and region not in instance.regions:
        return (
            f"{name} is not sold in {region}: {', '.join(instance.regions)}; "
            f"or take {instance.instead}"
        )
    if price := instance.price(capacity, region):
        return Offer(instance, gpu, price.usd, price)
    if capacity != "spot" and (price := instance.price(capacity, HOME_REGION)):
        return Offer(instance, gpu, price.usd, price, estimated=True)
    if capacity == "reservation" and (price := instance.price("capacity_block", region)):
        return Offer(instance, gpu, price.usd, price, estimated=True)
    return f"no price of {name} {_SAID[capacity]} in {region} is known"


def owned_market(target: ExistingCluster) -> tuple[Market, list[str]]:
    """The machines of an existing cluster, and a line for each whose GPU the catalog lacks."""
    offers: list[Offer] = []
    unknown: list[str] = []
    for place, nodes in enumerate(target.nodes):
        gpu = find_gpu(nodes.gpu)
        if gpu is None:
            known = load_gpus()
            unknown.append(
                f"target.nodes[{place}].gpu: the catalog has no GPU "
                f'"{nodes.gpu}"{nearest(nodes.gpu, known)}; it has: {", ".join(known)}'
            )
            continue
        price = Price(nodes.usd_per_hour, "the stack file", "")
        offers.append(Offer(_as_instance(nodes, gpu), gpu, nodes.usd_per_hour, price))
    return Market("owned", target.context, tuple(offers), {}), unknown


def _as_instance(nodes: GpuNodes, gpu: Gpu) -> Instance:
    return Instance(
        name=nodes.name,
        family=nodes.name,
        gpu=gpu.name,
        gpus=nodes.gpus,
        vcpu=nodes.vcpu,
        ram_gib=nodes.ram_gib,
        nvme_gb=nodes.nvme_gb,
        network_gbps=nodes.network_gbps,
        efa=0,
        max_pods=110,  # Kubernetes' default
        capacity=("on_demand",),
        regions=(),
        prices={},
        spot_lowest={},
        instead=None,
        source="the stack file",
        date="",
        count=nodes.count,
    )


def days_old(date: str, today: str) -> int:
    """Days from one ISO date to another."""
    return (datetime.date.fromisoformat(today) - datetime.date.fromisoformat(date)).days
