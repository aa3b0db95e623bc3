"""Every value that AWS would check, checked here: enums, types, documents, user data, networks."""

from __future__ import annotations

import base64
import email
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.model import ServiceModel
from program.programs import EKS_STACKS, recorded

from freehold.catalog.instances import load_instances
from freehold.cluster.gpu_node_group import GPU_TAINT
from freehold.policy.aws_rules import statement_problems
from freehold.recording import Resource

ON_EKS = pytest.mark.parametrize("stack", EKS_STACKS)


@cache
def service(name: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(name)


def enum(service_name: str, shape: str) -> set[str]:
    found: Any = service(service_name).shape_for(shape)
    return set(found.enum)


def of_type(stack: str, type_: str) -> list[dict[str, Any]]:
    return [dict(resource.inputs) for resource in recorded(stack).of_type(type_)]


@ON_EKS
def test_node_groups_say_what_eks_knows(stack: str) -> None:
    for group in of_type(stack, "aws:eks/nodeGroup:NodeGroup"):
        assert group["amiType"] in enum("eks", "AMITypes")
        assert group["capacityType"] in enum("eks", "CapacityTypes")
        strategy = group["updateConfig"].get("updateStrategy", "DEFAULT")
        assert strategy in enum("eks", "NodegroupUpdateStrategies")
        for taint in group.get("taints", []):
            assert taint["effect"] in enum("eks", "TaintEffect")
        assert set(group.get("instanceTypes", [])) <= enum("ec2", "InstanceType")


def test_every_instance_type_of_the_catalog_is_one_of_ec2_s() -> None:
    assert set(load_instances()) <= enum("ec2", "InstanceType")


@ON_EKS
def test_launch_templates_say_what_ec2_knows(stack: str) -> None:
    for template in of_type(stack, "aws:ec2/launchTemplate:LaunchTemplate"):
        options = template["metadataOptions"]
        assert options["httpTokens"] in enum("ec2", "LaunchTemplateHttpTokensState")
        for mapping in template["blockDeviceMappings"]:
            disk = mapping["ebs"]
            assert disk["volumeType"] in enum("ec2", "VolumeType")
            # gp3: at most a quarter MiB/s for each IOPS, 1,000 MiB/s and 16,000 IOPS in all.
            assert disk.get("throughput", 125) * 4 <= disk.get("iops", 3000)
        for tags in template["tagSpecifications"]:
            assert tags["resourceType"] in enum("ec2", "ResourceType")
        market = template.get("instanceMarketOptions", {}).get("marketType")
        assert market is None or market in enum("ec2", "MarketType")


@ON_EKS
def test_the_cluster_says_what_eks_knows(stack: str) -> None:
    cluster = recorded(stack).one("eks:index:Cluster").inputs
    assert set(cluster["enabledClusterLogTypes"]) == enum("eks", "LogType")
    assert cluster["authenticationMode"] in enum("eks", "AuthenticationMode")
    assert cluster["upgradePolicy"]["supportType"] in enum("eks", "SupportType")


@ON_EKS
def test_interface_endpoints_and_retentions_are_allowed_ones(stack: str) -> None:
    for endpoint in of_type(stack, "aws:ec2/vpcEndpoint:VpcEndpoint"):
        assert endpoint["vpcEndpointType"] in enum("ec2", "VpcEndpointType")
        assert endpoint["serviceName"].startswith("com.amazonaws.us-east-2.")
    # CloudWatch takes these only (PutRetentionPolicy, API reference).
    allowed = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827}
    for logs in of_type(stack, "aws:cloudwatch/logGroup:LogGroup"):
        assert logs["retentionInDays"] in allowed


def documents(stack: str) -> Iterator[tuple[Resource, dict[str, Any]]]:
    for resource in recorded(stack).resources:
        for key in ("policy", "assumeRolePolicy"):
            text = resource.inputs.get(key)
            if isinstance(text, str) and resource.type.startswith(("aws:iam", "aws:s3")):
                yield resource, json.loads(text)


@ON_EKS
def test_every_iam_document_is_one(stack: str) -> None:
    found = list(documents(stack))
    assert len(found) > 10
    for resource, document in found:
        assert document["Version"] == "2012-10-17", resource.urn
        for statement in document["Statement"]:
            assert statement["Effect"] in ("Allow", "Deny")
            assert {"Action", "Resource"} <= statement.keys() or "Principal" in statement
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                prefix, _, name = action.partition(":")
                assert name and prefix in KNOWN_SERVICES, action


KNOWN_SERVICES = {
    "acm",
    "autoscaling",
    "ec2",
    "eks",
    "elasticloadbalancing",
    "iam",
    "kms",
    "logs",
    "s3",
    "sns",
    "sts",
}
# IAM's prefix -> botocore's service, where the action's name is an operation's.
_OPERATIONS = {"ec2": "ec2", "autoscaling": "autoscaling", "elasticloadbalancing": "elbv2"}


@ON_EKS
def test_actions_exist(stack: str) -> None:
    for _, document in documents(stack):
        for statement in document["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                prefix, _, name = action.partition(":")
                if prefix in _OPERATIONS and statement["Effect"] == "Allow":
                    known: Any = service(_OPERATIONS[prefix]).operation_names
                    assert name in known, action


@ON_EKS
def test_no_document_is_too_wide(stack: str) -> None:
    for resource, document in documents(stack):
        for statement in document["Statement"]:
            assert list(statement_problems(statement)) == [], resource.urn


@ON_EKS
def test_every_role_has_one_user(stack: str) -> None:
    for role in recorded(stack).of_type("aws:iam/role:Role"):
        statements = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        assert len(statements) == 1 and list(statements[0]["Principal"]) == ["Service"]
    users = [
        (a["namespace"], a["serviceAccount"])
        for a in of_type(stack, "aws:eks/podIdentityAssociation:PodIdentityAssociation")
    ]
    assert len(users) == len(set(users))


@ON_EKS
def test_nothing_is_open_to_the_world(stack: str) -> None:
    for resource in recorded(stack).resources:
        if "ecurityGroup" in resource.type and "Egress" not in resource.type:
            assert "0.0.0.0/0" not in json.dumps(dict(resource.inputs)), resource.urn
    assert recorded(stack).one("eks:index:Cluster").inputs["endpointPublicAccess"] is False


@cache
def node_config_schema() -> dict[str, Any]:
    text = (Path(__file__).parent / "data" / "nodeconfig-crd.yaml").read_text()
    versions = yaml.safe_load(text)["spec"]["versions"]
    return versions[0]["schema"]["openAPIV3Schema"]


def unknown_keys(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """Keys that the schema does not have, and values that its enums do not."""
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value}"
    if not isinstance(value, dict):
        return
    known, rest = schema.get("properties", {}), schema.get("additionalProperties")
    for key, inner in value.items():
        if key in known:
            yield from unknown_keys(inner, known[key], f"{where}.{key}")
        elif rest is None:
            yield f"{where}.{key}"


@ON_EKS
def test_user_data_is_mime_with_a_node_config(stack: str) -> None:
    for template in of_type(stack, "aws:ec2/launchTemplate:LaunchTemplate"):
        message = email.message_from_bytes(base64.b64decode(template["userData"]))
        assert message.is_multipart() and not message.defects
        parts: list[Any] = message.get_payload()  # pyright: ignore[reportAssignmentType]
        assert [part.get_content_type() for part in parts] == ["application/node.eks.aws"]
        config = yaml.safe_load(parts[0].get_payload())
        assert config["kind"] == "NodeConfig"
        assert list(unknown_keys(config, node_config_schema())) == []


def test_a_misspelt_node_config_is_found() -> None:
    wrong = {"spec": {"instance": {"localStorage": {"strategy": "RAID5"}, "localDisk": {}}}}
    assert len(list(unknown_keys(wrong, node_config_schema()))) == 2


@ON_EKS
def test_gpu_pods_and_charts_tolerate_the_gpu_taint(stack: str) -> None:
    found = of_type(stack, "kubernetes:apps/v1:DaemonSet")
    assert "dcgm-exporter" in {each["metadata"]["name"] for each in found}
    for each in found:
        assert GPU_TAINT.to_kubernetes() in each["spec"]["template"]["spec"]["tolerations"]


def test_pools_that_share_a_gpu_get_as_many_slices() -> None:
    files = recorded("small").one("kubernetes:core/v1:ConfigMap", "device-plugin-shared-3").inputs
    config = yaml.safe_load(files["data"]["configuration"])
    slices = config["sharing"]["timeSlicing"]["resources"]
    assert slices == [{"name": "nvidia.com/gpu", "replicas": 3}]
    labels = recorded("small").one("aws:eks/nodeGroup:NodeGroup", "gpu-shared").inputs["labels"]
    assert labels["nvidia.com/device-plugin.config"] == "shared-3"
    plugin = recorded("small").one("kubernetes:apps/v1:DaemonSet", "device-plugin-shared-3").inputs
    assert plugin["spec"]["template"]["spec"]["nodeSelector"].items() <= labels.items()


@ON_EKS
def test_add_ons_and_charts_are_the_release_s(stack: str) -> None:
    from freehold.catalog.release import load_release

    release = load_release()
    made = {a["addonName"]: a["addonVersion"] for a in of_type(stack, "aws:eks/addon:Addon")}
    assert made == dict(release.eks_addons)
    for chart in of_type(stack, "kubernetes:helm.sh/v3:Release"):
        assert chart["version"] == release.charts[chart["chart"]]["version"]
    cluster = recorded(stack).one("eks:index:Cluster").inputs
    assert cluster["version"] == release.kubernetes
