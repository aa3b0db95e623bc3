"""Add-ons that EKS itself keeps, at the release's builds, each with the identity that it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from . import iam
from .cluster import Cluster
from .tags import tags

_POLICIES = "arn:aws:iam::aws:policy"

# Without these no node becomes Ready, so they come first. They run on the host's network.
BEFORE_NODES: Mapping[str, Mapping[str, Any]] = {
    "vpc-cni": {
        # Network policies are enforced by the CNI's own agent; prefixes make pods start faster
        # (EKS best practices, AI/ML).
        "enableNetworkPolicy": "true",
        "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
    },
    "kube-proxy": {},
    "eks-pod-identity-agent": {},
}
ON_NODES: Mapping[str, Mapping[str, Any]] = {
    "coredns": {},
    "aws-ebs-csi-driver": {},
    "metrics-server": {},
    "eks-node-monitoring-agent": {},
}
# Add-on -> its service account and AWS's own policy for it.
_IDENTITIES = {
    "vpc-cni": ("aws-node", f"{_POLICIES}/AmazonEKS_CNI_Policy"),
    "aws-ebs-csi-driver": (
        "ebs-csi-controller-sa",
        f"{_POLICIES}/service-role/AmazonEBSCSIDriverPolicy",
    ),
}


class Addons(pulumi.ComponentResource):
    """Some of the add-ons; made twice, for those before the nodes and those on them."""

    ready: tuple[pulumi.Resource, ...]

    def __init__(
        self,
        name: str,
        wanted: Mapping[str, Mapping[str, Any]],
        versions: Mapping[str, str],
        cluster: Cluster,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:Addons", name, {}, opts)
        made: list[pulumi.Resource] = []
        for addon, configuration in wanted.items():
            made.append(
                aws.eks.Addon(
                    addon,
                    cluster_name=cluster.cluster_name,
                    addon_name=addon,
                    addon_version=versions[addon],
                    resolve_conflicts_on_create="OVERWRITE",
                    resolve_conflicts_on_update="OVERWRITE",
                    tags=tags(cluster.name),
                    **_optional(configuration, self._identity(addon, cluster)),
                    opts=pulumi.ResourceOptions(
                        parent=self, depends_on=[*after], deleted_with=cluster.eks
                    ),
                )
            )
        self.ready = tuple(made)
        self.register_outputs({})

    def _identity(
        self, addon: str, cluster: Cluster
    ) -> list[aws.eks.AddonPodIdentityAssociationArgs]:
        if addon not in _IDENTITIES:
            return []
        account, policy = _IDENTITIES[addon]
        role, _ = iam.service_role(
            addon,
            "pods.eks.amazonaws.com",
            [policy],
            pulumi.ResourceOptions(parent=self),
            actions=("sts:AssumeRole", "sts:TagSession"),
            tags=tags(cluster.name),
        )
        return [aws.eks.AddonPodIdentityAssociationArgs(role_arn=role.arn, service_account=account)]


def _optional(
    configuration: Mapping[str, Any], identity: Sequence[aws.eks.AddonPodIdentityAssociationArgs]
) -> dict[str, Any]:
    """Arguments that an add-on without configuration or identity goes without."""
    found: dict[str, Any] = {}
    if configuration:
        found["configuration_values"] = json.dumps(configuration)
    if identity:
        found["pod_identity_associations"] = list(identity)
    return found
