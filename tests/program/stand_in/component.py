"""What `eks.Cluster` registers: the one component of the programs that a provider expands.

The arguments go to the control plane as in pulumi-eks' nodejs/eks/cluster/cluster.ts (7bf0c1b, read
2026-11-24), for the arguments that the programs give. The component itself is registered without them, as by
pulumi-eks 4.4 (freehold.policy.rules says why that matters).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws
from pulumi.provider import ConstructResult, Provider


class Eks(Provider):
    """The package `eks`."""

    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: Mapping[str, pulumi.Input[Any]],
        options: pulumi.ResourceOptions | None = None,
    ) -> ConstructResult:
        if resource_type != "eks:index:Cluster":
            raise NotImplementedError(resource_type)
        made = _Cluster(name, inputs, options)
        state = {"eksCluster": made.control_plane, "kubeconfigJson": made.kubeconfig}
        return ConstructResult(urn=made.urn, state=state)


class _Cluster(pulumi.ComponentResource):
    def __init__(
        self,
        name: str,
        given: Mapping[str, pulumi.Input[Any]],
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        super().__init__("eks:index:Cluster", name, {}, opts)
        service_network: Any = given.get("kubernetesServiceIpAddressRange")
        network: Any = {
            "subnet_ids": given.get("privateSubnetIds"),
            "endpoint_private_access": given.get("endpointPrivateAccess"),
            "endpoint_public_access": given.get("endpointPublicAccess"),
            "public_access_cidrs": given.get("publicAccessCidrs"),
        }
        self.control_plane = aws.eks.Cluster(
            f"{name}-eksCluster",
            name=given.get("name"),
            version=given.get("version"),  # pyright: ignore[reportArgumentType]
            role_arn=pulumi.Output.from_input(given.get("serviceRole")).apply(_arn),
            vpc_config=network,
            access_config={
                "authentication_mode": given.get("authenticationMode"),
                "bootstrap_cluster_creator_admin_permissions": True,
            },
            enabled_cluster_log_types=given.get("enabledClusterLogTypes"),
            encryption_config=_encryption(given.get("encryptionConfigKeyArn")),
            kubernetes_network_config={"service_ipv4_cidr": service_network},
            upgrade_policy=given.get("upgradePolicy"),
            deletion_protection=given.get("deletionProtection"),
            bootstrap_self_managed_addons=given.get("bootstrapSelfManagedAddons"),
            tags=given.get("tags"),
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=[
                    "accessConfig.bootstrapClusterCreatorAdminPermissions",
                    "bootstrapSelfManagedAddons",
                ],
            ),
        )
        self.kubeconfig = self.control_plane.endpoint.apply(
            lambda endpoint: json.dumps({"clusters": [{"cluster": {"server": endpoint}}]})
        )
        self.register_outputs({"eksCluster": self.control_plane})


def _encryption(key: pulumi.Input[Any]) -> Any:
    if key is None:
        return None
    return {"provider": {"key_arn": key}, "resources": ["secrets"]}


def _arn(role: Any) -> Any:
    """Of the role that was given, or of the one that pulumi-eks would make."""
    return role.arn if role else "arn:aws:iam::123456789012:role/made"
