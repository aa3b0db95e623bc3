"""Invariants of every stack's resources, as a first preview sees them and as an `up` does."""

from __future__ import annotations

import pytest
from program.programs import EKS_STACKS, STACKS, recorded

from freehold.recording import Recording, Resource, sdk

CLUSTER = "eks:index:Cluster"
BOTH = pytest.mark.parametrize("known", [True, False], ids=["up", "preview"])
EVERY = pytest.mark.parametrize("stack", STACKS)
ON_EKS = pytest.mark.parametrize("stack", EKS_STACKS)


def custom(recording: Recording) -> list[Resource]:
    return [resource for resource in recording.resources if not resource.is_component]


@EVERY
@BOTH
def test_every_resource_has_a_component_above_it(stack: str, known: bool) -> None:
    recording = recorded(stack, known)
    for resource in custom(recording):
        assert any(one.is_component for one in recording.ancestors(resource)), resource.urn


@EVERY
@BOTH
def test_every_input_is_one_that_the_sdk_s_classes_know(stack: str, known: bool) -> None:
    found = [p for r in custom(recorded(stack, known)) for p in sdk.problems(r.type, r.inputs)]
    assert found == []


@EVERY
def test_preview_and_up_register_the_same_resources(stack: str) -> None:
    urns = [sorted(r.urn for r in recorded(stack, known).resources) for known in (True, False)]
    assert urns[0] == urns[1] and len(urns[0]) == len(set(urns[0]))


@EVERY
def test_nothing_is_looked_up_in_a_cloud(stack: str) -> None:
    assert recorded(stack).invokes == ()


@ON_EKS
def test_what_holds_data_is_protected_and_nothing_else(stack: str) -> None:
    protected = {(r.type, r.name) for r in recorded(stack).resources if r.protect}
    assert protected == {
        ("aws:kms/key:Key", "cluster-secrets"),
        ("aws:kms/key:Key", "models"),
    } | {
        # The bucket, and what keeps it closed, encrypted and versioned.
        (resource.type, resource.name)
        for resource in recorded(stack).resources
        if resource.type.startswith("aws:s3/")
    }


@ON_EKS
def test_every_aws_resource_is_in_the_stack_file_s_region(stack: str) -> None:
    recording = recorded(stack)
    provider = recording.one("pulumi:providers:aws")
    assert provider.inputs["region"] == "us-east-2"
    for resource in recording.resources:
        if resource.type.startswith("aws:"):
            assert resource.provider.startswith(provider.urn), resource.urn


@ON_EKS
def test_objects_vanish_with_the_cluster_but_for_those_that_own_something_outside(
    stack: str,
) -> None:
    recording = recorded(stack)
    cluster, provider = recording.one(CLUSTER), recording.one("pulumi:providers:kubernetes")
    for resource in recording.resources:
        if not resource.type.startswith("kubernetes:"):
            continue
        assert resource.provider.startswith(provider.urn), resource.urn
        if resource.deleted_with:
            assert resource.deleted_with == cluster.urn
        else:
            # Load balancers, and the disk of Prometheus, whose chart makes its claim.
            kind = resource.type.rpartition(":")[2]
            owns = kind in ("Service", "Ingress", "PersistentVolumeClaim")
            assert owns or resource.name == "kube-prometheus-stack", resource.urn


def reaches(recording: Recording, start: Resource, goal: Resource) -> bool:
    """Whether `start` waits, through any number of steps, for `goal`."""
    known, seen, waiting = recording.by_urn(), set(), [start.urn]
    while waiting:
        urn = waiting.pop()
        if urn == goal.urn:
            return True
        if urn not in seen and urn in known:
            seen.add(urn)
            waiting += known[urn].dependencies
    return False


@ON_EKS
def test_the_front_door_goes_before_the_controller_that_cleans_up_after_it(stack: str) -> None:
    recording = recorded(stack)
    controller = recording.one("kubernetes:helm.sh/v3:Release", "aws-load-balancer-controller")
    doors = [
        r
        for r in recording.of_type("kubernetes:core/v1:Service")
        if r.inputs["spec"].get("type") == "LoadBalancer"
    ]
    assert len(doors) == 1 and not doors[0].deleted_with
    assert reaches(recording, doors[0], controller)
    assert reaches(recording, controller, recording.one("aws:eks/nodeGroup:NodeGroup", "system"))


@ON_EKS
def test_nodes_wait_for_the_cni_and_a_way_out(stack: str) -> None:
    recording = recorded(stack)
    cni = recording.one("aws:eks/addon:Addon", "vpc-cni")
    endpoint = recording.one("aws:ec2/vpcEndpoint:VpcEndpoint", "endpoint-s3")
    for group in recording.of_type("aws:eks/nodeGroup:NodeGroup"):
        assert reaches(recording, group, cni) and reaches(recording, group, endpoint)
        assert reaches(recording, group, recording.one(CLUSTER))


@ON_EKS
def test_engines_wait_for_their_weights(stack: str) -> None:
    recording = recorded(stack)
    jobs = recording.of_type("kubernetes:batch/v1:Job")
    engines = [
        r
        for r in recording.of_type("kubernetes:apps/v1:Deployment")
        if "nvidia.com/gpu" in str(r.inputs)
    ]
    assert jobs and engines
    for engine in engines:
        assert all(reaches(recording, engine, job) for job in jobs), engine.name


@EVERY
def test_no_secret_is_in_clear(stack: str) -> None:
    recording = recorded(stack)
    for resource in recording.of_type("kubernetes:core/v1:Secret"):
        assert {"data", "stringData"} & set(resource.secrets), resource.urn
    hidden = {"kubeconfig", "apiKeys", "dashboardsPassword"}
    assert hidden & set(recording.exports) <= recording.secret_exports
    for resource in recording.resources:
        if "stringData" not in resource.inputs and "hub-token" not in resource.name:
            assert "<hub-token>" not in str(resource.inputs), resource.urn


@ON_EKS
def test_everything_is_tagged_for_the_invoice(stack: str) -> None:
    for resource in recorded(stack).resources:
        if "tags" in sdk.output_types(resource.type) and resource.type.startswith("aws:"):
            tags = resource.inputs.get("tags", {})
            assert tags.get("freehold:stack") == stack, resource.urn


@ON_EKS
def test_what_controllers_make_in_aws_carries_the_stack_s_tag_too(stack: str) -> None:
    recording = recorded(stack)
    disks = recording.one("kubernetes:storage.k8s.io/v1:StorageClass").inputs["parameters"]
    assert disks["tagSpecification_1"] == f"freehold:stack={stack}"
    doors = recording.one("kubernetes:helm.sh/v3:Release", "aws-load-balancer-controller")
    assert doors.inputs["values"]["defaultTags"] == {"freehold:stack": stack}


def test_outputs_say_what_a_user_asks_next() -> None:
    exports = recorded("small").exports
    assert {"baseUrl", "clusterName", "kubeconfig", "plan", "cost", "apiKeys"} <= set(exports)
    assert exports["dashboardsUrl"].startswith("http://")
    assert exports["cost"]["usd_per_month"] > 0
    assert exports["plan"][0]["predicted"]["median_ttft_ms"] > 0
