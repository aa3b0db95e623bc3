"""What an account must have: said without credentials, checked with them (moto stands in for AWS)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner
from moto import mock_aws
from program.programs import BLOCK, ROOT, plan_of, tree

from freehold.catalog.instances import load_instances
from freehold.cli.preflight import command
from freehold.cluster.preflight import Need, needs
from freehold.config.inheritance import merge
from freehold.config.target import EksTarget

REGION = "us-east-2"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.Session(region_name=REGION)


def needs_of(stack_tree: dict[str, Any]) -> list[Need]:
    plan = plan_of(stack_tree)
    assert isinstance(plan.target, EksTarget)
    return needs(plan, plan.target)


def the(found: list[Need], text: str) -> Need:
    return next(need for need in found if text in need.what)


def test_on_demand_asks_for_room_for_an_update() -> None:
    need = the(needs_of(tree("g6e.2xlarge")), "G and VT instances")
    vcpu = load_instances()["g6e.2xlarge"].vcpu
    assert f"at least {2 * vcpu} vCPUs" in need.what and "L-DB2E81BA" in need.what


def test_spot_and_p_have_quotas_of_their_own() -> None:
    assert the(needs_of(tree("g6e.xlarge", {"kind": "spot"})), "L-3819A6DF")
    assert "at least 192 vCPUs" in the(needs_of(tree("p5en.48xlarge")), "L-417A185B").what


def test_a_capacity_block_needs_no_quota_but_itself() -> None:
    found = needs_of(tree("p5e.48xlarge", BLOCK))
    assert not any("P instances" in need.what for need in found)
    assert BLOCK["zone"] in the(found, str(BLOCK["id"])).what


@pytest.mark.parametrize(("value", "met"), [(0, False), (16, True)])
def test_a_quota_is_compared(value: int, met: bool) -> None:
    client = boto3.client(
        "service-quotas",
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    session: Any = type("Session", (), {"client": lambda *_: client})()
    with Stubber(client) as stub:
        expected = {"ServiceCode": "ec2", "QuotaCode": "L-DB2E81BA"}
        stub.add_response("get_service_quota", {"Quota": {"Value": float(value)}}, expected)
        finding = the(needs_of(tree("g6e.2xlarge")), "L-DB2E81BA").check(session)
    assert finding.met is met and f"{value}" in finding.said


def test_zones_without_the_machine_are_found(aws: Any) -> None:
    finding = the(needs_of(tree("g6e.2xlarge")), "is sold in").check(aws)
    offers = aws.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["g6e.2xlarge"]}],
    )["InstanceTypeOfferings"]
    there = {offer["Location"] for offer in offers}
    assert finding.met is bool(there & {"us-east-2a", "us-east-2b", "us-east-2c"})


def test_free_addresses_of_an_existing_vpc(aws: Any) -> None:
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=f"{REGION}{letter}")
        for letter, cidr in (("a", "10.0.0.0/20"), ("b", "10.0.16.0/28"), ("c", "10.0.32.0/20"))
    ]
    subnets = [one["Subnet"]["SubnetId"] for one in made]
    existing = {"kind": "existing", "id": vpc, "private_subnets": [*subnets[:2], subnets[0]]}
    found = needs_of(merge(tree("g6e.2xlarge"), {"target": {"vpc": existing}}))
    by_zone = {
        zone: next(n for n in found if f"in {zone}, with" in n.what).check(aws)
        for zone in ("us-east-2a", "us-east-2b", "us-east-2c")
    }
    assert [finding.met for finding in by_zone.values()] == [True, False, False]
    assert "11 free" in by_zone["us-east-2b"].said
    assert "it is in us-east-2a" in by_zone["us-east-2c"].said


@pytest.mark.parametrize(
    ("change", "met", "said"),
    [
        ({}, True, "as it should be"),
        ({"State": "scheduled"}, False, "scheduled"),
        ({"InstanceType": "p5en.48xlarge"}, False, "it is for p5en.48xlarge"),
        ({"AvailabilityZone": "us-east-2a"}, False, "it is in us-east-2a"),
        ({"AvailableInstanceCount": 0}, False, "0 are free"),
    ],
)
def test_a_reservation_is_compared_with_the_plan(
    change: dict[str, Any], met: bool, said: str
) -> None:
    client = boto3.client(
        "ec2", region_name=REGION, aws_access_key_id="t", aws_secret_access_key="t"
    )
    session: Any = type("Session", (), {"client": lambda *_: client})()
    good = {
        "State": "active",
        "InstanceType": "p5e.48xlarge",
        "AvailabilityZone": BLOCK["zone"],
        "AvailableInstanceCount": 1,
    }
    with Stubber(client) as stub:
        stub.add_response(
            "describe_capacity_reservations",
            {"CapacityReservations": [good | change]},
            {"CapacityReservationIds": [BLOCK["id"]]},
        )
        finding = the(needs_of(tree("p5e.48xlarge", BLOCK)), str(BLOCK["id"])).check(session)
    assert finding.met is met and said in finding.said


def test_without_credentials_it_says_what_must_be_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(command, ["large", "--offline"])
    assert done.exit_code == 0
    assert "Capacity Block of 1 x p5e.48xlarge" in done.output and "-> " in done.output


def test_with_credentials_what_is_missing_makes_it_fail(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(command, ["large"])
    assert done.exit_code == 1 and "NO  a Capacity Block" in done.output
