"""How a VPC's addresses are divided. Pure: the same network and zones give the same subnets."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from freehold.config import FreeholdError

# A VPC is a /16 at most; below a /20 a zone's private half has fewer than 512 addresses, and every
# pod takes one (amazon-vpc-cni without prefix delegation).
_LARGEST, _SMALLEST = 16, 20
_PRIVATE = [ipaddress.IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")
# Docker's default bridge, and Cloud9's and SageMaker's, lie here (VPC user guide, "VPC CIDR blocks").
_DOCKER = ipaddress.IPv4Network("172.17.0.0/16")
# What EKS itself picks for Services when not told (EKS user guide, "Networking requirements").
_SERVICES = [ipaddress.IPv4Network(n) for n in ("172.20.0.0/16", "10.100.0.0/16")]


@dataclass(frozen=True)
class ZoneSubnets:
    """The two subnets of one zone."""

    zone: str
    private: str
    public: str


def divide(cidr: str, zones: Sequence[str]) -> list[ZoneSubnets]:
    """An eighth of the VPC for each zone's nodes and pods, a sixty-fourth for its load balancers.

    A zone that is added at the end moves no other. Raises FreeholdError for a network that a VPC
    cannot have.
    """
    network = _network(cidr)
    eighths = list(network.subnets(prefixlen_diff=3))
    public = list(eighths[7].subnets(prefixlen_diff=3))
    return [
        ZoneSubnets(zone, str(eighths[place]), str(public[place]))
        for place, zone in enumerate(zones)
    ]


def service_network(cidr: str) -> str:
    """The network of Services that does not overlap the VPC's."""
    network = _network(cidr)
    return str(next(n for n in _SERVICES if not n.overlaps(network)))


def _network(cidr: str) -> ipaddress.IPv4Network:
    where = "target.vpc.cidr"
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise FreeholdError(
            f"{where}: {cidr} is no IPv4 network ({error}): such as 10.40.0.0/16"
        ) from None
    if not _LARGEST <= network.prefixlen <= _SMALLEST:
        raise FreeholdError(
            f"{where}: {cidr} must be a /{_LARGEST} to a /{_SMALLEST}: a VPC is no larger, and a "
            f"smaller one runs out of addresses for pods; such as {network[0]}/{_LARGEST}"
        )
    if not any(network.subnet_of(private) for private in [*_PRIVATE, _SHARED]):
        raise FreeholdError(
            f"{where}: {cidr} is not a private network: take a part of 10.0.0.0/8, 172.16.0.0/12, "
            "192.168.0.0/16 or 100.64.0.0/10"
        )
    if network.overlaps(_DOCKER):
        raise FreeholdError(
            f"{where}: {cidr} overlaps {_DOCKER}, which container engines use on the nodes "
            "themselves: such as 172.18.0.0/16"
        )
    return network
