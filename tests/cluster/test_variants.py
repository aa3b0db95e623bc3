"""Other ways to say network, endpoint and protection: well formed, within the rules, and as said."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from program.programs import plan_of, record_cluster, tree

from freehold.config.inheritance import merge
from freehold.policy.rule import violations
from freehold.policy.rules import RULES
from freehold.recording import Recording, sdk

SUBNETS = [f"subnet-0123456789abcdef{place}" for place in range(3)]
VARIANTS: dict[str, dict[str, Any]] = {
    "existing-vpc": {
        "vpc": {"kind": "existing", "id": "vpc-0123456789abcdef0", "private_subnets": SUBNETS}
    },
    "nat-per-zone": {"vpc": {"kind": "new", "nat": "per_zone"}},
    "endpoints": {"vpc": {"kind": "new", "interface_endpoints": ["ecr.api", "sts"]}},
    "public-networks": {"endpoint": {"public_cidrs": ["203.0.113.0/24"]}},
    "admins": {"admins": ["arn:aws:iam::123456789012:role/operators"]},
    "teardown": {"deletion_protection": False},
}


@cache
def recording_of(variant: str) -> Recording:
    base = tree("g6e.2xlarge")
    if variant == "public-networks":
        del base["target"]["endpoint"]
    return record_cluster(plan_of(merge(base, {"target": VARIANTS[variant]})))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_well_formed_and_within_the_rules(variant: str) -> None:
    resources = recording_of(variant).resources
    assert violations(RULES, resources) == []
    assert [
        p for r in resources if not r.is_component for p in sdk.problems(r.type, r.inputs)
    ] == []


def test_an_existing_vpc_is_used_and_left_alone() -> None:
    recording = recording_of("existing-vpc")
    assert not recording.of_type("aws:ec2/vpc:Vpc")
    cluster = recording.one("eks:index:Cluster").inputs
    assert cluster["vpcId"] == "vpc-0123456789abcdef0"
    assert cluster["privateSubnetIds"] == SUBNETS
    assert recording.one("aws:eks/nodeGroup:NodeGroup", "system").inputs["subnetIds"] == SUBNETS


@pytest.mark.parametrize(("variant", "count"), [("nat-per-zone", 3), ("endpoints", 1)])
def test_nat_gateways_are_as_many_as_said(variant: str, count: int) -> None:
    recording = recording_of(variant)
    gateways = recording.of_type("aws:ec2/natGateway:NatGateway")
    assert len(gateways) == count
    routes = [
        r.inputs["natGatewayId"]
        for r in recording.of_type("aws:ec2/route:Route")
        if "natGatewayId" in r.inputs
    ]
    assert len(routes) == 3 and len(set(routes)) == count


def test_interface_endpoints_take_https_from_the_vpc_only() -> None:
    recording = recording_of("endpoints")
    rule = recording.one("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule").inputs
    assert (rule["cidrIpv4"], rule["fromPort"], rule["toPort"]) == ("10.40.0.0/16", 443, 443)
    kinds = [
        e.inputs["vpcEndpointType"] for e in recording.of_type("aws:ec2/vpcEndpoint:VpcEndpoint")
    ]
    assert sorted(kinds) == ["Gateway", "Interface", "Interface"]


def test_a_public_endpoint_is_for_named_networks_only() -> None:
    cluster = recording_of("public-networks").one("eks:index:Cluster").inputs
    assert cluster["endpointPublicAccess"] and cluster["endpointPrivateAccess"]
    assert cluster["publicAccessCidrs"] == ["203.0.113.0/24"]
    private = recording_of("admins").one("eks:index:Cluster").inputs
    assert private["endpointPublicAccess"] is False and "publicAccessCidrs" not in private


def test_admins_enter_by_access_entries() -> None:
    entries = recording_of("admins").one("eks:index:Cluster").inputs["accessEntries"]
    assert entries["admin-0"]["principalArn"] == "arn:aws:iam::123456789012:role/operators"
    policy = entries["admin-0"]["accessPolicies"]["cluster"]
    assert policy["accessScope"] == {"type": "cluster"}


def test_deletion_protection_is_on_until_it_is_said_otherwise() -> None:
    assert recording_of("admins").one("eks:index:Cluster").inputs["deletionProtection"] is True
    assert recording_of("teardown").one("eks:index:Cluster").inputs["deletionProtection"] is False


def test_nothing_that_eks_brings_by_itself_is_left_on() -> None:
    cluster = recording_of("admins").one("eks:index:Cluster").inputs
    assert cluster["skipDefaultNodeGroup"] and cluster["skipDefaultSecurityGroups"]
    assert cluster["bootstrapSelfManagedAddons"] is False and cluster["useDefaultVpcCni"] is True
    for addon in ("kubeProxyAddonOptions", "corednsAddonOptions"):
        assert cluster[addon]["enabled"] is False
