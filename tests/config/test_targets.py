"""Where a stack lands: what each target must say, and may not."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.config import FreeholdError, parse_stack
from freehold.config.target import EksTarget, ExistingCluster

from .trees import EKS, EXISTING, LOCAL, changed


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(FreeholdError) as caught:
        parse_stack(tree, "Pulumi.x.yaml")
    return str(caught.value)


def test_each_target_parses_to_its_own_type() -> None:
    assert isinstance(parse_stack(EKS, "x").target, EksTarget)
    assert isinstance(parse_stack(EXISTING, "x").target, ExistingCluster)


def test_an_unknown_kind_names_the_known_ones() -> None:
    message = refusal(changed(LOCAL, target__kind="ekss"))
    assert "target.kind: must be one of local, eks, existing" in message
    assert 'did you mean "eks"' in message and "(given: 'ekss')" in message


def test_a_missing_kind_is_named() -> None:
    assert "target.kind: is required" in refusal({**LOCAL, "target": {}})


def test_an_unknown_key_of_a_target_is_told_without_the_union_s_tag() -> None:
    message = refusal(changed(EKS, target__zone="us-east-1a"))
    assert "\n  target.zone: unknown key" in message
    assert 'did you mean "zones"' in message


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ({}, "exactly one way"),
        ({"runner": "in-vpc", "public_cidrs": ["192.0.2.0/24"]}, "exactly one way"),
        ({"public_cidrs": ["0.0.0.0/0"]}, "the whole internet"),
        ({"public_cidrs": ["::/0"]}, "the whole internet"),
        ({"public_cidrs": ["office"]}, "is no network"),
    ],
)
def test_the_api_has_exactly_one_way_in_and_never_the_whole_internet(
    endpoint: dict[str, Any], words: str
) -> None:
    message = refusal(changed(EKS, target__endpoint=endpoint))
    assert "target.endpoint" in message and words in message


def test_zones_are_of_the_region_and_two_different_ones() -> None:
    assert "us-east-1a" in refusal(changed(EKS, target__zones=["us-west-2a", "us-east-1b"]))
    assert "named twice" in refusal(changed(EKS, target__zones=["us-east-1a", "us-east-1a"]))
    assert "target.zones" in refusal(changed(EKS, target__zones=["us-east-1a"]))


def test_a_vpc_is_new_or_exists() -> None:
    subnets = ["subnet-0a1b2c3d", "subnet-0a1b2c3e"]
    vpc = {"kind": "existing", "id": "vpc-0a1b2c3d", "private_subnets": subnets}
    assert parse_stack(changed(EKS, target__vpc=vpc), "x")
    message = refusal(changed(EKS, target__vpc={"kind": "existing", "id": "vpc-0a1b2c3d"}))
    assert "target.vpc.private_subnets: is required" in message


def test_a_reservation_s_zone_is_one_of_the_cluster_s() -> None:
    capacity = {"kind": "reservation", "id": "cr-0123456789abcdef0", "zone": "us-east-1c"}
    message = refusal(changed(EKS, capacity=capacity))
    assert "capacity.zone" in message and "add it there" in message


def test_a_capacity_block_may_be_planned_before_it_is_bought() -> None:
    stack = parse_stack(changed(EKS, capacity={"kind": "capacity_block"}), "x")
    assert stack.capacity.kind == "capacity_block" and not stack.capacity.bought
    bought = {
        "kind": "capacity_block",
        "id": "cr-0123456789abcdef0",
        "zone": "us-east-1a",
        "ends": "2027-03-01T11:30:00Z",
    }
    stack = parse_stack(changed(EKS, capacity=bought), "x")
    assert stack.capacity.kind == "capacity_block" and stack.capacity.bought


def test_model_source_is_hub_bucket_or_claim() -> None:
    assert "model_source" in refusal(changed(EXISTING, target__model_source="/models"))
    assert parse_stack(changed(EXISTING, target__model_source="pvc://models/llama"), "x")
