"""What an AWS account must have before a stack can come up, and whether it has it.

`needs` is pure: it says what must be true and where to ask for it. `check` asks AWS, read-only.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

from freehold.catalog.instances import load_instances
from freehold.catalog.prices import load_system_nodes
from freehold.config.capacity import CapacityBlock, Reservation, Spot
from freehold.config.target import EksTarget, ExistingVpc, NewVpc
from freehold.planning.plan import NodeGroup, Plan

from .gpu_node_group import gpu_nodes

# Service Quotas' codes for vCPUs of running instances, a region; new accounts have 0 of the GPU
# ones (AWS docs, "EC2 instance quotas"). The codes with these names are in many public repositories,
# among them tables of `aws service-quotas list-service-quotas` (looked up 2026-11-24).
_QUOTAS = {
    "G": ("L-DB2E81BA", "Running On-Demand G and VT instances"),
    "P": ("L-417A185B", "Running On-Demand P instances"),
    "spot G": ("L-3819A6DF", "All G and VT Spot Instance Requests"),
    "spot P": ("L-C4BD4855", "All P5 Spot Instance Requests"),
    "standard": ("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
}
_EIPS = ("L-0263D0A3", "EC2-VPC Elastic IPs")
# The CNI hands out prefixes of 16 addresses to a node; a node starts with two.
_ADDRESSES_A_NODE = 32


@dataclass(frozen=True)
class Finding:
    """What AWS said. `met` is None where it could not be asked."""

    met: bool | None
    said: str


@dataclass(frozen=True)
class Need:
    """One thing that must be true."""

    what: str
    where: str
    """Where to ask for it, or to mend it."""
    check: Callable[[Any], Finding]
    """Takes a boto3 session of the stack's region."""


def needs(plan: Plan, settings: EksTarget) -> list[Need]:
    """Everything, in the order in which it takes long to get."""
    return [
        *_quotas(plan, settings),
        *_reservations(plan),
        *_offerings(plan),
        *_addresses(plan, settings),
    ]


def _quotas(plan: Plan, settings: EksTarget) -> Iterator[Need]:
    wanted: dict[str, int] = {}
    for group in plan.node_groups:
        if key := _quota_of(group):
            vcpu = load_instances()[group.instance_type].vcpu
            # An update, or one more replica, runs beside what runs.
            wanted[key] = wanted.get(key, 0) + vcpu * gpu_nodes(group, plan).max_size
    system = load_system_nodes()[settings.system.instance_type]
    wanted["standard"] = system.vcpu * (settings.system.nodes + 1)
    for key, vcpu in wanted.items():
        code, name = _QUOTAS[key]
        yield _quota("ec2", code, name, vcpu, "vCPUs", settings.region, gpus=key != "standard")
    if isinstance(settings.vpc, NewVpc):
        gateways = len(settings.zones) if settings.vpc.nat == "per_zone" else 1
        yield _quota("ec2", *_EIPS, gateways, "in all", settings.region)


def _quota_of(group: NodeGroup) -> str | None:
    """A Capacity Block counts towards no quota; a reservation counts as On-Demand."""
    if isinstance(group.capacity, CapacityBlock):
        return None
    family = "P" if group.instance_type.startswith("p") else "G"
    return f"spot {family}" if isinstance(group.capacity, Spot) else family


def _quota(
    service: str, code: str, name: str, wanted: int, unit: str, region: str, *, gpus: bool = False
) -> Need:
    def check(session: Any) -> Finding:
        got = session.client("service-quotas").get_service_quota(
            ServiceCode=service, QuotaCode=code
        )
        value = got["Quota"]["Value"]
        return Finding(value >= wanted, f"the account's quota is {value:g}")

    return Need(
        f'quota "{name}" ({code}) in {region}: at least {wanted} {unit}',
        f"Service Quotas console, {region}: ask for {wanted}{'; GPUs may take days' * gpus}",
        check,
    )


def _reservations(plan: Plan) -> Iterator[Need]:
    for group in plan.node_groups:
        capacity = group.capacity
        if isinstance(capacity, CapacityBlock) and not capacity.bought:
            yield Need(
                f"a Capacity Block of {group.nodes} x {group.instance_type} for node group "
                f"{group.name}",
                "EC2 console, Capacity Reservations, Capacity Blocks: buy it, then put its id, zone "
                "and ends under capacity in the stack file",
                lambda _: Finding(False, "the stack file names none yet"),
            )
        elif isinstance(capacity, CapacityBlock | Reservation):
            assert capacity.id
            yield Need(
                f"{capacity.id}: active, in {capacity.zone}, with {group.nodes} free "
                f"{group.instance_type}",
                "EC2 console, Capacity Reservations",
                _reservation_check(capacity, group),
            )


def _reservation_check(
    capacity: CapacityBlock | Reservation, group: NodeGroup
) -> Callable[[Any], Finding]:
    def check(session: Any) -> Finding:
        found = session.client("ec2").describe_capacity_reservations(
            CapacityReservationIds=[capacity.id]
        )["CapacityReservations"]
        if not found:
            return Finding(False, "there is no such reservation in this account and region")
        return _compare(found[0], capacity.zone, group)

    return check


def _compare(found: dict[str, Any], zone: str | None, group: NodeGroup) -> Finding:
    wrong = []
    if found["State"] != "active":
        wrong.append(f"it is {found['State']}: nodes start only when it is active")
    if found["InstanceType"] != group.instance_type:
        wrong.append(f"it is for {found['InstanceType']}")
    if found["AvailabilityZone"] != zone:
        wrong.append(f"it is in {found['AvailabilityZone']}")
    if found["AvailableInstanceCount"] < group.nodes:
        wrong.append(f"{found['AvailableInstanceCount']} are free (running nodes count as taken)")
    ends: datetime.datetime | None = found.get("EndDate")
    until = f", until {ends:%Y-%m-%d %H:%M} UTC" if ends else ""
    return Finding(not wrong, "; ".join(wrong) or f"as it should be{until}")


def _offerings(plan: Plan) -> Iterator[Need]:
    for group in plan.node_groups:
        zones = ", ".join(group.zones)
        yield Need(
            f"{group.instance_type} is sold in {zones}",
            "target.zones of the stack file: name zones that have it",
            _offering_check(group),
        )


def _offering_check(group: NodeGroup) -> Callable[[Any], Finding]:
    def check(session: Any) -> Finding:
        found = session.client("ec2").describe_instance_type_offerings(
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": [group.instance_type]}],
        )["InstanceTypeOfferings"]
        there = sorted(offer["Location"] for offer in found)
        has = [zone for zone in group.zones if zone in there]
        said = f"AWS has it in {', '.join(there) or 'no zone of the region'}"
        return Finding(bool(has), said)

    return check


def _addresses(plan: Plan, settings: EksTarget) -> Iterator[Need]:
    if not isinstance(settings.vpc, ExistingVpc):
        return
    nodes = settings.system.nodes + sum(2 * group.nodes for group in plan.node_groups)
    wanted = ceil(nodes / len(settings.zones)) * _ADDRESSES_A_NODE
    for zone, subnet in zip(settings.zones, settings.vpc.private_subnets, strict=True):
        yield Need(
            f"{subnet}: in {zone}, with {wanted} free addresses",
            "VPC console, Subnets; pods take their addresses from it",
            _subnet_check(subnet, zone, wanted),
        )


def _subnet_check(subnet: str, zone: str, wanted: int) -> Callable[[Any], Finding]:
    def check(session: Any) -> Finding:
        found = session.client("ec2").describe_subnets(
            Filters=[{"Name": "subnet-id", "Values": [subnet]}]
        )["Subnets"]
        if not found:
            return Finding(False, "there is no such subnet in this account and region")
        free, there = found[0]["AvailableIpAddressCount"], found[0]["AvailabilityZone"]
        return Finding(free >= wanted and there == zone, f"it is in {there} with {free} free")

    return check
