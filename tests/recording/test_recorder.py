"""The recorder sees what Pulumi's own mocks hide."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pytest

from freehold.recording import record, sdk


class Box(pulumi.ComponentResource):
    def __init__(self) -> None:
        super().__init__("test:index:Box", "box")


def program() -> None:
    box = Box()
    vpc = aws.ec2.Vpc(
        "vpc", cidr_block="10.0.0.0/16", opts=pulumi.ResourceOptions(parent=box, protect=True)
    )
    cluster = eks.Cluster("c", name="c", vpc_id=vpc.id, opts=pulumi.ResourceOptions(parent=box))
    aws.eks.Addon(
        "addon",
        cluster_name=cluster.eks_cluster.name,
        addon_name=pulumi.Output.secret("hidden"),
        opts=pulumi.ResourceOptions(
            parent=box,
            depends_on=[vpc],
            deleted_with=cluster,
            ignore_changes=["tags"],
            retain_on_delete=True,
        ),
    )
    pulumi.export("id", vpc.id)
    pulumi.export("hidden", pulumi.Output.secret("value"))


def test_options_are_kept() -> None:
    recording = record(program, stack="test")
    vpc, addon = recording.one("aws:ec2/vpc:Vpc"), recording.one("aws:eks/addon:Addon")
    cluster, box = recording.one("eks:index:Cluster"), recording.one("test:index:Box")
    assert vpc.protect and vpc.parent == box.urn and box.is_component
    assert cluster.remote and not cluster.is_component
    assert {vpc.urn, cluster.urn} <= set(addon.dependencies)
    assert addon.deleted_with == cluster.urn and addon.retain_on_delete
    assert addon.ignore_changes == ("tags",)
    assert addon.secrets == ("addonName",) and addon.inputs["addonName"] == "hidden"
    assert list(recording.ancestors(addon)) == [box]


def test_exports_and_their_secrets_are_kept() -> None:
    recording = record(program, stack="test")
    assert recording.exports == {"id": "<vpc.id>", "hidden": "value"}
    assert recording.secret_exports == {"hidden"}


def test_a_preview_knows_nothing_that_the_cloud_makes_up() -> None:
    recording = record(program, stack="test", known=False)
    assert recording.one("eks:index:Cluster").inputs["vpcId"] == sdk.UNKNOWN
    assert recording.one("aws:eks/addon:Addon").inputs["clusterName"] == sdk.UNKNOWN
    assert recording.exports["id"] == sdk.UNKNOWN


def test_nothing_is_left_of_an_earlier_run() -> None:
    assert len(record(program, stack="a").resources) == len(record(program, stack="b").resources)


def test_errors_of_the_program_come_through() -> None:
    def broken() -> None:
        vpc = aws.ec2.Vpc("vpc", cidr_block="10.0.0.0/16")
        pulumi.export("x", vpc.id.apply(lambda _: 1 / 0))

    with pytest.raises(ZeroDivisionError):
        record(broken, stack="test")


def test_a_lookup_in_the_cloud_is_an_error() -> None:
    with pytest.raises(Exception, match="getAvailabilityZones"):
        record(lambda: pulumi.export("z", aws.get_availability_zones_output().names), stack="test")
