"""Roles, each with one trust and no more permissions than its one user needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

Statement = Mapping[str, Any]

# Of every role: who deploys may touch these, and no other of the account (platform/bootstrap).
PATH = "/freehold/"
# Pod Identity's agent assumes the role for a pod and says whose pod it is (EKS user guide).
_PODS = "pods.eks.amazonaws.com"


@dataclass(frozen=True)
class PodUser:
    """The one service account that may use a role."""

    cluster: pulumi.Input[str]
    namespace: str
    service_account: str


def trust(service: str, actions: Sequence[str] = ("sts:AssumeRole",)) -> str:
    """A trust policy for one AWS service."""
    return document(
        [{"Effect": "Allow", "Principal": {"Service": service}, "Action": list(actions)}]
    )


def document(statements: Sequence[Statement]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(
    actions: Sequence[str], resources: Sequence[str], **condition: Mapping[str, Any]
) -> dict[str, Any]:
    """One statement; keywords are condition operators, such as `StringEquals={...}`."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return statement | ({"Condition": dict(condition)} if condition else {})


def service_role(
    name: str,
    service: str,
    managed: Sequence[str],
    opts: pulumi.ResourceOptions,
    *,
    actions: Sequence[str] = ("sts:AssumeRole",),
    tags: Mapping[str, str],
) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
    """A role for an AWS service with AWS's own policies, and what must exist before it is used."""
    role = aws.iam.Role(
        name,
        path=PATH,
        assume_role_policy=trust(service, actions),
        tags=dict(tags),
        opts=opts,
    )
    attached = [
        aws.iam.RolePolicyAttachment(
            f"{name}-{arn.rpartition('/')[2]}", role=role.name, policy_arn=arn, opts=opts
        )
        for arn in managed
    ]
    return role, [role, *attached]


def pod_role(
    name: str,
    user: PodUser,
    opts: pulumi.ResourceOptions,
    *,
    tags: Mapping[str, str],
    policy: pulumi.Input[str] | None = None,
    managed: Sequence[str] = (),
) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
    """A role that pods of one service account get by Pod Identity, and what they must wait for."""
    role, ready = service_role(
        name, _PODS, managed, opts, actions=("sts:AssumeRole", "sts:TagSession"), tags=tags
    )
    if policy is not None:
        ready.append(aws.iam.RolePolicy(name, role=role.name, policy=policy, opts=opts))
    ready.append(
        aws.eks.PodIdentityAssociation(
            name,
            cluster_name=user.cluster,
            namespace=user.namespace,
            service_account=user.service_account,
            role_arn=role.arn,
            tags=dict(tags),
            opts=opts,
        )
    )
    return role, ready
