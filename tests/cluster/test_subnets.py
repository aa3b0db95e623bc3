"""A VPC's addresses: no overlap, enough for pods, nothing moves when a zone is added."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.cluster.subnets import divide, service_network
from freehold.config import FreeholdError

ZONES = [f"us-east-1{letter}" for letter in "abcdef"]


@given(
    st.integers(16, 20),
    st.integers(0, 255),
    st.integers(2, 6),
)
def test_subnets_never_overlap_and_stay_inside(prefix: int, second: int, zones: int) -> None:
    cidr = f"10.{second}.0.0/{prefix}"
    parts = divide(cidr, ZONES[:zones])
    networks = [ipaddress.ip_network(n) for p in parts for n in (p.private, p.public)]
    assert all(n.subnet_of(ipaddress.ip_network(cidr)) for n in networks)  # pyright: ignore[reportArgumentType]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(networks, 2))
    assert all(ipaddress.ip_network(p.private).num_addresses >= 512 for p in parts)
    assert divide(cidr, ZONES)[:zones] == parts


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.40.0.0/8", "no IPv4 network"),
        ("10.40.0.0/24", "must be a /16"),
        ("8.8.0.0/16", "not a private network"),
        ("172.17.0.0/16", "overlaps 172.17.0.0/16"),
        ("fd00::/16", "no IPv4 network"),
        ("ten", "no IPv4 network"),
    ],
)
def test_what_no_vpc_can_have_is_refused_with_a_way_out(cidr: str, said: str) -> None:
    with pytest.raises(FreeholdError, match=said) as refused:
        divide(cidr, ZONES[:2])
    assert str(refused.value).startswith("target.vpc.cidr: ")


def test_services_never_overlap_the_vpc() -> None:
    assert service_network("10.40.0.0/16") == "172.20.0.0/16"
    assert service_network("172.20.0.0/16") == "10.100.0.0/16"
