"""Every stack passes every rule, and every rule has a program that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as k8s
import pytest
from program.programs import STACKS, recorded

from freehold.policy.rule import violations
from freehold.policy.rules import RULES, policies
from freehold.recording import record

BOTH = pytest.mark.parametrize("known", [True, False], ids=["up", "preview"])


@pytest.mark.parametrize("stack", STACKS)
@BOTH
def test_every_stack_passes(stack: str, known: bool) -> None:
    assert violations(RULES, recorded(stack, known).resources) == []


TAGS = {"freehold:stack": "test"}


def cluster(**changes: Any) -> None:
    good: dict[str, Any] = {
        "authentication_mode": eks.AuthenticationMode.API,
        "endpoint_private_access": True,
        "endpoint_public_access": False,
        "enabled_cluster_log_types": [
            "api",
            "audit",
            "authenticator",
            "controllerManager",
            "scheduler",
        ],
        "encryption_config_key_arn": "arn:aws:kms:x",
        "upgrade_policy": {"support_type": "STANDARD"},
        "tags": TAGS,
    }
    eks.Cluster("c", **(good | changes))


def raw_cluster(mode: str) -> None:
    aws.eks.Cluster(
        "c",
        role_arn="arn",
        vpc_config={"subnet_ids": ["s"], "endpoint_private_access": True},
        access_config={"authentication_mode": mode},
    )


def template(**changes: Any) -> None:
    good: dict[str, Any] = {
        "metadata_options": {"http_tokens": "required", "http_put_response_hop_limit": 1},
        "block_device_mappings": [{"device_name": "/dev/xvda", "ebs": {"encrypted": "true"}}],
        "tags": TAGS,
    }
    aws.ec2.LaunchTemplate("t", **(good | changes))


def nodes(**changes: Any) -> None:
    good: dict[str, Any] = {
        "cluster_name": "c",
        "node_role_arn": "arn",
        "subnet_ids": ["s"],
        "scaling_config": {"min_size": 1, "desired_size": 1, "max_size": 1},
        "node_repair_config": {"enabled": True},
        "tags": TAGS,
    }
    aws.eks.NodeGroup("n", **(good | changes))


def role_policy(*statements: dict[str, Any]) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    aws.iam.RolePolicy("p", role="r", policy=text)


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def role(**principal: Any) -> None:
    text = json.dumps({"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", **principal}]})
    aws.iam.Role("r", assume_role_policy=text, tags=TAGS)


CONTAINER: dict[str, Any] = {
    "name": "a",
    "image": "registry/app:1.0",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    "security_context": {
        "run_as_non_root": True,
        "allow_privilege_escalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccomp_profile": {"type": "RuntimeDefault"},
    },
}


def deployment(spec: dict[str, Any] | None = None, **changes: Any) -> None:
    pod = {"containers": [CONTAINER | changes], **(spec or {})}
    labels = {"a": "b"}
    made: Any = {
        "selector": {"match_labels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    k8s.apps.v1.Deployment(
        "d",
        metadata={"name": "d", "namespace": "n"},
        spec=made,
    )
    k8s.networking.v1.NetworkPolicy(
        "np",
        metadata={"name": "np", "namespace": "n"},
        spec={"pod_selector": {}, "policy_types": ["Ingress"]},
    )


def bucket(*, versioning: str = "Enabled", algorithm: str = "aws:kms", closed: bool = True) -> None:
    made = aws.s3.Bucket("b", tags=TAGS)
    name = made.bucket
    aws.s3.BucketVersioning("b", bucket=name, versioning_configuration={"status": versioning})
    aws.s3.BucketServerSideEncryptionConfiguration(
        "b",
        bucket=name,
        rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": algorithm}}],
    )
    aws.s3.BucketPublicAccessBlock(
        "b",
        bucket=name,
        block_public_acls=closed,
        block_public_policy=closed,
        ignore_public_acls=closed,
        restrict_public_buckets=closed,
    )
    aws.s3.BucketPolicy("b", bucket=name, policy='{"aws:SecureTransport": "false"}')


def vpc() -> None:
    aws.ec2.Vpc("v", cidr_block="10.0.0.0/16", tags=TAGS)


def ingress(cidr: str) -> None:
    aws.vpc.SecurityGroupIngressRule("i", security_group_id="sg", ip_protocol="tcp", cidr_ipv4=cidr)


def old_group(cidr: str) -> None:
    rule: Any = {"protocol": "tcp", "from_port": 22, "to_port": 22, "cidr_blocks": [cidr]}
    aws.ec2.SecurityGroup("g", ingress=[rule], tags=TAGS)


def repository(**changes: Any) -> None:
    good: dict[str, Any] = {
        "image_tag_mutability": "IMMUTABLE",
        "image_scanning_configuration": {"scan_on_push": True},
    }
    aws.ecr.Repository("r", **(good | changes))


def admin_entry(scope: str) -> None:
    aws.eks.AccessPolicyAssociation(
        "a",
        cluster_name="c",
        principal_arn="arn",
        policy_arn="arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        access_scope={"type": scope},
    )


def namespace(**labels: str) -> None:
    k8s.core.v1.Namespace("n", metadata={"name": "n", "labels": labels})


def storage(encrypted: str) -> None:
    k8s.storage.v1.StorageClass(
        "s", provisioner="ebs.csi.aws.com", parameters={"encrypted": encrypted}
    )


def open_namespace() -> None:
    spec: Any = {"template": {"spec": {"restart_policy": "Never", "containers": [CONTAINER]}}}
    k8s.batch.v1.Job(
        "j",
        metadata={"name": "j", "namespace": "open"},
        spec=spec,
    )


def privileged(key: str, value: Any) -> Callable[[], None]:
    context = CONTAINER["security_context"] | {key: value}
    return lambda: deployment(security_context=context)


# Rule -> programs that break it, each by one thing.
BREAKS: dict[str, list[Callable[[], None]]] = {
    "cluster-endpoint": [
        lambda: cluster(endpoint_public_access=True),
        lambda: cluster(endpoint_public_access=True, public_access_cidrs=["0.0.0.0/0"]),
        lambda: cluster(endpoint_private_access=False),
        lambda: raw_cluster("API"),
    ],
    "cluster-logs": [lambda: cluster(enabled_cluster_log_types=["api"])],
    "cluster-secrets-encrypted": [lambda: cluster(encryption_config_key_arn=None)],
    "cluster-authentication": [
        lambda: cluster(authentication_mode=eks.AuthenticationMode.CONFIG_MAP),
        lambda: raw_cluster("CONFIG_MAP"),
    ],
    "cluster-support": [lambda: cluster(upgrade_policy={"support_type": "EXTENDED"})],
    "cluster-admin-scope": [lambda: admin_entry("namespace")],
    "kms-rotation": [lambda: aws.kms.Key("k", tags=TAGS) and None],
    "node-metadata": [
        lambda: template(
            metadata_options={"http_tokens": "optional", "http_put_response_hop_limit": 1}
        ),
        lambda: template(
            metadata_options={"http_tokens": "required", "http_put_response_hop_limit": 2}
        ),
    ],
    "node-disks": [
        lambda: template(block_device_mappings=[]),
        lambda: template(block_device_mappings=[{"device_name": "x", "ebs": {"volume_size": 9}}]),
    ],
    "node-addresses": [
        lambda: template(network_interfaces=[{"associate_public_ip_address": "true"}]),
        lambda: template(key_name="mine"),
    ],
    "subnets-private": [
        lambda: aws.ec2.Subnet("s", vpc_id="v", map_public_ip_on_launch=True) and None
    ],
    "node-ssh": [lambda: nodes(remote_access={"ec2_ssh_key": "mine"})],
    "node-repair": [lambda: nodes(node_repair_config={"enabled": False})],
    "security-groups": [lambda: old_group("0.0.0.0/0")],
    "security-group-rules": [lambda: ingress("0.0.0.0/0")],
    "registry": [
        lambda: repository(image_tag_mutability="MUTABLE"),
        lambda: repository(image_scanning_configuration={"scan_on_push": False}),
    ],
    "iam-permissions": [
        lambda: role_policy(allow("s3:*", "arn:aws:s3:::b")),
        lambda: role_policy(allow("*")),
        lambda: role_policy(allow(["ec2:DescribeVpcs", "ec2:TerminateInstances"])),
        lambda: role_policy(allow("secretsmanager:GetSecretValue")),
    ],
    "iam-trust": [
        lambda: role(Principal="*"),
        lambda: role(Principal={"AWS": "*"}),
        lambda: role(Principal={"Federated": "arn:aws:iam::1:oidc-provider/x"}),
    ],
    "tags": [
        lambda: aws.kms.Key("k", enable_key_rotation=True) and None,
        lambda: aws.bedrock.InferenceProfile("i", model_source={"copy_from": "arn"}) and None,
    ],
    "buckets": [
        lambda: bucket(versioning="Suspended"),
        lambda: bucket(algorithm="AES256"),
        lambda: bucket(closed=False),
        lambda: aws.s3.Bucket("alone", tags=TAGS) and None,
    ],
    "flow-logs": [vpc],
    "image-versions": [
        lambda: deployment(image="registry:5000/app"),
        lambda: deployment(image="app:latest"),
    ],
    "pod-privileges": [
        privileged("run_as_non_root", False),
        privileged("allow_privilege_escalation", True),
        privileged("privileged", True),
        privileged("capabilities", {}),
        privileged("seccomp_profile", None),
        lambda: deployment({"host_network": True}),
    ],
    "pod-requests": [lambda: deployment(resources={"requests": {"cpu": "1"}})],
    "pod-security": [lambda: namespace(team="a")],
    "volume-encryption": [lambda: storage("false")],
    "network-policies": [open_namespace],
}
# A bare cluster lacks more than the one thing.
_BARE = {"cluster-logs", "cluster-secrets-encrypted", "cluster-support"}
ALSO = {
    ("cluster-endpoint", 3): _BARE,
    ("cluster-authentication", 1): _BARE | {"cluster-endpoint"},
}
CASES = [(name, place) for name, programs in BREAKS.items() for place in range(len(programs))]


def broken_rules(program: Callable[[], None]) -> set[str]:
    found = violations(RULES, record(program, stack="test").resources)
    return {problem.partition(":")[0] for problem in found}


@pytest.mark.parametrize(("rule", "place"), CASES)
def test_a_program_that_breaks_a_rule_is_caught_by_it(rule: str, place: int) -> None:
    assert broken_rules(BREAKS[rule][place]) - ALSO.get((rule, place), set()) == {rule}


@pytest.mark.parametrize(
    "program", [cluster, template, nodes, deployment, bucket, repository], ids=lambda p: p.__name__
)
def test_the_same_program_unbroken_passes(program: Callable[[], None]) -> None:
    assert broken_rules(program) == set()


def test_reads_and_conditions_are_no_wildcards() -> None:
    ours = {"StringEquals": {"aws:ResourceTag/x": "y"}}
    assert broken_rules(lambda: role_policy(allow("ec2:DescribeVpcs"))) == set()
    assert (
        broken_rules(lambda: role_policy(allow("ec2:TerminateInstances", Condition=ours))) == set()
    )


def test_every_rule_is_broken_by_something_and_is_in_the_pack() -> None:
    names = {rule.name for rule in RULES}
    assert set(BREAKS) == names == {policy.name for policy in policies()}
    assert len(names) == len(RULES)


def test_the_pack_s_policies_report_what_the_rules_find() -> None:
    (said,) = reported("kms-rotation", "aws:kms/key:Key", {})
    assert "rotated" in said


def test_the_pack_judges_a_control_plane_and_not_the_empty_component_above_it() -> None:
    """As the engine shows them for `eks.Cluster`."""
    assert reported("cluster-logs", "eks:index:Cluster", {}) == []
    assert reported("cluster-logs", "aws:eks/cluster:Cluster", {}) != []
    assert reported("cluster-logs", "eks:index:Cluster", {"name": "c"}) != []


def reported(rule: str, type_: str, inputs: dict[str, Any]) -> list[str]:
    """What the pack's policy of that name says of one resource."""
    from pulumi_policy import PolicyResourceOptions, ResourceValidationArgs

    policy: Any = next(p for p in policies() if p.name == rule)
    options = PolicyResourceOptions(
        protect=False,
        ignore_changes=[],
        delete_before_replace=None,
        aliases=[],
        custom_timeouts=None,  # pyright: ignore[reportArgumentType]
        additional_secret_outputs=[],
        parent="",
    )
    said: list[str] = []
    args = ResourceValidationArgs(type_, inputs, "urn", "name", options, None)
    policy.validate(args, lambda message, urn=None: said.append(message))
    return said
