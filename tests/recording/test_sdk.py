"""The schema taken from the SDKs' classes catches what a provider would refuse."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.recording import sdk

NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
GOOD: dict[str, Any] = {
    "clusterName": "c",
    "nodeRoleArn": "arn",
    "subnetIds": ["subnet-1"],
    "scalingConfig": {"minSize": 1.0, "desiredSize": 1.0, "maxSize": 2.0},
    "taints": [{"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}],
    "labels": {"a": "b"},
}


def test_what_is_right_passes() -> None:
    assert sdk.problems(NODE_GROUP, GOOD) == []
    assert sdk.problems(NODE_GROUP, GOOD | {"version": sdk.UNKNOWN}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instanceTipes": ["g6e.xlarge"]}, "instanceTipes is not known"),
        ({"scalingConfig": {"minSize": 1, "desiredSize": 1}}, "scalingConfig.maxSize is required"),
        ({"scalingConfig": [1]}, "scalingConfig must be a map"),
        ({"subnetIds": "subnet-1"}, "subnetIds must be a list"),
        ({"subnetIds": [1]}, "subnetIds[0] must be str"),
        ({"labels": {"a": 1}}, "labels.a must be str"),
        ({"taints": [{"key": "k"}]}, "taints[0].effect is required"),
        ({"diskSize": "200"}, "diskSize must be int"),
        ({"nodeRepairConfig": {"enabled": "yes"}}, "nodeRepairConfig.enabled must be bool"),
    ],
)
def test_what_a_provider_refuses_is_found(change: dict[str, Any], said: str) -> None:
    found = sdk.problems(NODE_GROUP, GOOD | change)
    assert len(found) == 1 and said in found[0]


def test_what_is_missing_is_named() -> None:
    assert any("clusterName is required" in p for p in sdk.problems(NODE_GROUP, {}))


def test_a_type_of_no_sdk_is_said_to_be_one() -> None:
    assert sdk.problems("aws:eks/nodeGroop:NodeGroop", {}) != []


def test_kubernetes_objects_are_checked_to_the_bottom() -> None:
    pod = {"spec": {"template": {"spec": {"containers": [{"imag": "x", "name": "a"}]}}}}
    found = sdk.problems("kubernetes:apps/v1:Deployment", {"spec": {**pod["spec"], "selector": {}}})
    assert any("containers[0].imag is not known" in problem for problem in found)


def test_enums_are_checked() -> None:
    found = sdk.problems("eks:index:Cluster", {"authenticationMode": "TOKEN"})
    assert "must be one of" in found[0] and "API" in found[0]
