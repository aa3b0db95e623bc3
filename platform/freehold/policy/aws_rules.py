"""Rules about nodes, networks, data and permissions in AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from .rule import Inputs, ResourceRule, Seen, StackRule, at

_WORLD = {"0.0.0.0/0", "::/0"}
_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
_NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
_ROLE, _ROLE_POLICY = "aws:iam/role:Role", "aws:iam/rolePolicy:RolePolicy"
_POLICY = "aws:iam/policy:Policy"
_GROUP = "aws:ec2/securityGroup:SecurityGroup"
_INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_OLD_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
_BUCKET = "aws:s3/bucket:Bucket"
# Actions whose resources AWS does not let one name, or that only read what exists.
_READS = ("Describe", "List", "Get")
_SECRET_READS = ("secretsmanager:GetSecretValue", "ssm:GetParameter", "s3:GetObject")


def _key(inputs: Inputs) -> Iterator[str]:
    if inputs.get("enableKeyRotation") is not True:
        yield "the key is not rotated: enableKeyRotation"


def _metadata(inputs: Inputs) -> Iterator[str]:
    if at(inputs, "metadataOptions.httpTokens") != "required":
        yield "instance metadata answers without a token: httpTokens must be required"
    if at(inputs, "metadataOptions.httpPutResponseHopLimit") != 1:
        yield "pods reach the instance's metadata: httpPutResponseHopLimit must be 1"


def _disks(inputs: Inputs) -> Iterator[str]:
    mappings = inputs.get("blockDeviceMappings") or []
    if not mappings:
        yield "it names no disk, so the AMI's own is used: 20 GB, not encrypted"
    for mapping in mappings:
        if str(at(mapping, "ebs.encrypted")).lower() != "true":
            yield f"disk {mapping.get('deviceName')} is not encrypted"


def _public_addresses(inputs: Inputs) -> Iterator[str]:
    for interface in inputs.get("networkInterfaces") or []:
        if str(interface.get("associatePublicIpAddress", "false")).lower() == "true":
            yield "its instances get public addresses"
    if inputs.get("keyName"):
        yield "it carries an SSH key: use Session Manager"


def _subnet(inputs: Inputs) -> Iterator[str]:
    if inputs.get("mapPublicIpOnLaunch") is True:
        yield "whatever starts in it gets a public address: mapPublicIpOnLaunch"


def _node_group(inputs: Inputs) -> Iterator[str]:
    if inputs.get("remoteAccess"):
        yield "remoteAccess opens SSH on its nodes: use Session Manager"


def _repair(inputs: Inputs) -> Iterator[str]:
    if at(inputs, "nodeRepairConfig.enabled") is not True:
        yield "nobody replaces a node whose GPU fell off the bus: nodeRepairConfig"


def _security_group(inputs: Inputs) -> Iterator[str]:
    for rule in inputs.get("ingress") or []:
        open_to = {*(rule.get("cidrBlocks") or []), *(rule.get("ipv6CidrBlocks") or [])}
        if _WORLD & open_to:
            yield "it lets the whole internet in"


def _security_rule(inputs: Inputs) -> Iterator[str]:
    single = {inputs.get("cidrIpv4"), inputs.get("cidrIpv6")}
    listed = set(inputs.get("cidrBlocks") or []) if inputs.get("type") != "egress" else set()
    if _WORLD & (single | listed):
        yield "it lets the whole internet in"


def _repository(inputs: Inputs) -> Iterator[str]:
    if inputs.get("imageTagMutability") != "IMMUTABLE":
        yield "a tag can be moved to another image: imageTagMutability"
    if at(inputs, "imageScanningConfiguration.scanOnPush") is not True:
        yield "images are not scanned: imageScanningConfiguration"


def _permissions(inputs: Inputs) -> Iterator[str]:
    text = inputs.get("policy")
    if not isinstance(text, str) or not text.startswith("{"):
        return  # not known yet
    for statement in json.loads(text)["Statement"]:
        yield from statement_problems(statement)


def statement_problems(statement: dict[str, Any]) -> Iterator[str]:
    """What is too wide in one statement of a permission policy."""
    if statement["Effect"] != "Allow":
        return
    actions, resources = _listed(statement["Action"]), _listed(statement.get("Resource", []))
    wide = [action for action in actions if "*" in action]
    if wide:
        yield f"it allows whole families of actions: {', '.join(wide)}"
    if "*" not in resources or statement.get("Condition"):
        return
    writes = [action for action in actions if not _only_reads(action)]
    if writes:
        yield f"it allows on everything, without a condition: {', '.join(writes)}"


def _only_reads(action: str) -> bool:
    return action.partition(":")[2].startswith(_READS) and action not in _SECRET_READS


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _trust(inputs: Inputs) -> Iterator[str]:
    text = inputs.get("assumeRolePolicy")
    if not isinstance(text, str) or not text.startswith("{"):
        return
    for statement in json.loads(text)["Statement"]:
        principal = statement.get("Principal", {})
        if principal == "*" or (isinstance(principal, dict) and "*" in principal.values()):
            yield "anybody may assume it"
        federated = isinstance(principal, dict) and "Federated" in principal
        if federated and not any("sub" in str(c) for c in [statement.get("Condition", {})]):
            yield "any workload of its identity provider may assume it: condition on the subject"


def _tags(inputs: Inputs) -> Iterator[str]:
    if not (inputs.get("tags") or {}).get("freehold:stack"):
        yield "it has no tag freehold:stack: nobody can tell what it belongs to"


_SIDES = {
    "aws:s3/bucketVersioning:BucketVersioning": "versioning",
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
        "encryption"
    ),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": "a block of public access",
    "aws:s3/bucketPolicy:BucketPolicy": "a policy that refuses plain HTTP",
}


def _buckets(resources: Sequence[Seen]) -> Iterator[str]:
    """Every bucket has all of its four sides, and they are closed."""
    for bucket in (r for r in resources if r.type == _BUCKET):
        sides = {r.type: r.inputs for r in resources if r.type in _SIDES and r.name == bucket.name}
        for type_, what in _SIDES.items():
            if type_ not in sides:
                yield f"bucket {bucket.name} has no {what}"
        for type_, inputs in sides.items():
            yield from (f"bucket {bucket.name}: {p}" for p in _side_problems(type_, inputs))


def _side_problems(type_: str, inputs: Inputs) -> Iterator[str]:
    kind = type_.rpartition(":")[2]
    if kind == "BucketVersioning":
        if at(inputs, "versioningConfiguration.status") != "Enabled":
            yield "versioning is off"
    elif kind == "BucketPublicAccessBlock":
        names = (
            "blockPublicAcls",
            "blockPublicPolicy",
            "ignorePublicAcls",
            "restrictPublicBuckets",
        )
        if off := [name for name in names if inputs.get(name) is not True]:
            yield f"public access is open: {', '.join(off)}"
    elif kind == "BucketPolicy":
        text = str(inputs.get("policy", ""))
        if text.startswith("{") and "aws:SecureTransport" not in text:
            yield "its policy does not refuse plain HTTP"
    else:
        for rule in inputs.get("rules") or []:
            algorithm = at(rule, "applyServerSideEncryptionByDefault.sseAlgorithm")
            if algorithm != "aws:kms":
                yield "it is not encrypted under a key of the account"


def _flow_logs(resources: Sequence[Seen]) -> Iterator[str]:
    has_vpc = [r for r in resources if r.type == "aws:ec2/vpc:Vpc"]
    if has_vpc and not any(r.type == "aws:ec2/flowLog:FlowLog" for r in resources):
        yield f"VPC {has_vpc[0].name} has no flow logs"


_TAGGED = (
    _NODE_GROUP,
    _TEMPLATE,
    _BUCKET,
    _ROLE,
    _GROUP,
    "aws:ec2/vpc:Vpc",
    "aws:ec2/natGateway:NatGateway",
    "aws:kms/key:Key",
    "aws:bedrock/inferenceProfile:InferenceProfile",
    "aws:budgets/budget:Budget",
    "eks:index:Cluster",
)

AWS_RULES = (
    ResourceRule(
        "kms-rotation",
        "EKS best practices: data encryption",
        "Keys are rotated.",
        ("aws:kms/key:Key",),
        _key,
    ),
    ResourceRule(
        "node-metadata",
        "EKS best practices: identity and access",
        "IMDSv2 only, and not for pods.",
        (_TEMPLATE,),
        _metadata,
    ),
    ResourceRule(
        "node-disks",
        "EKS best practices: data encryption",
        "Disks are encrypted.",
        (_TEMPLATE,),
        _disks,
    ),
    ResourceRule(
        "node-addresses", "CIS 5.4.3", "Nodes are private.", (_TEMPLATE,), _public_addresses
    ),
    ResourceRule(
        "subnets-private",
        "CIS 5.4.3",
        "No subnet hands out public addresses.",
        ("aws:ec2/subnet:Subnet",),
        _subnet,
    ),
    ResourceRule(
        "node-ssh",
        "EKS best practices: infrastructure security",
        "No SSH.",
        (_NODE_GROUP,),
        _node_group,
    ),
    ResourceRule(
        "node-repair",
        "EKS best practices: AI/ML compute",
        "Broken nodes are replaced.",
        (_NODE_GROUP,),
        _repair,
    ),
    ResourceRule(
        "security-groups",
        "EKS best practices: network security",
        "No security group lets the internet in.",
        (_GROUP,),
        _security_group,
    ),
    ResourceRule(
        "security-group-rules",
        "EKS best practices: network security",
        "No rule lets the internet in.",
        (_INGRESS, _OLD_RULE),
        _security_rule,
    ),
    ResourceRule(
        "registry",
        "CIS 5.1.1",
        "Images are scanned and their tags fixed.",
        ("aws:ecr/repository:Repository",),
        _repository,
    ),
    ResourceRule(
        "iam-permissions",
        "EKS best practices: identity and access",
        "No wildcard actions, no writes on everything.",
        (_ROLE_POLICY, _POLICY),
        _permissions,
    ),
    ResourceRule("iam-trust", "CIS 5.2.1", "Every role has one user.", (_ROLE,), _trust),
    ResourceRule(
        "tags",
        "EKS best practices: cost optimization",
        "What costs is tagged by stack.",
        _TAGGED,
        _tags,
    ),
    StackRule(
        "buckets",
        "EKS best practices: data encryption",
        "Buckets are versioned, encrypted, private and TLS only.",
        _buckets,
    ),
    StackRule(
        "flow-logs",
        "EKS best practices: network security",
        "A VPC keeps flow logs.",
        _flow_logs,
    ),
)
