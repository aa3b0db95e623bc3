"""The EKS control plane, and how Pulumi speaks to it."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as k8s

from freehold.config.target import EksTarget, NewVpc

from . import iam
from .network import Network
from .subnets import service_network
from .tags import tags

_POLICIES = "arn:aws:iam::aws:policy"
_CLUSTER_ADMIN = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_LOG_DAYS = 90  # a quarter, as the flow logs


class Cluster(pulumi.ComponentResource):
    """An EKS cluster without nodes: API authentication only, secrets under a key of its own.

    Add-ons are not EKS's defaults but those of the release (addons.py), so the built-in ones are
    switched off here.
    """

    name: str
    version: str
    """Minor version of Kubernetes, the nodes' too: EKS leaves them behind when they do not name it."""
    eks: eks.Cluster
    cluster_name: pulumi.Output[str]
    """As an output: what takes it waits for the control plane, and goes before it."""
    provider: k8s.Provider
    kubeconfig: pulumi.Output[str]
    """JSON, secret. It holds no credential: it calls `aws eks get-token`."""

    def __init__(
        self,
        stack: str,
        target: EksTarget,
        version: str,
        network: Network,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:Cluster", "cluster", {}, opts)
        self.name, self.version = stack, version
        child = pulumi.ResourceOptions(parent=self)
        role, ready = iam.service_role(
            "control-plane",
            "eks.amazonaws.com",
            [f"{_POLICIES}/AmazonEKSClusterPolicy"],
            child,
            tags=tags(stack),
        )
        key = aws.kms.Key(
            "cluster-secrets",
            description=f"Kubernetes secrets of {stack}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            tags=tags(stack),
            # Without it nothing in etcd can be read again.
            opts=pulumi.ResourceOptions(parent=self, protect=True),
        )
        # EKS would make it too, and keep it for ever.
        logs = aws.cloudwatch.LogGroup(
            "control-plane",
            name=f"/aws/eks/{stack}/cluster",
            retention_in_days=_LOG_DAYS,
            tags=tags(stack),
            opts=child,
        )
        self.eks = self._control_plane(target, version, network, role, key, [*ready, logs])
        self.cluster_name = self.eks.eks_cluster.name
        self.kubeconfig = pulumi.Output.secret(self.eks.kubeconfig_json)
        self.provider = k8s.Provider(
            "kubernetes",
            kubeconfig=self.kubeconfig,
            # The kubeconfig's text may change; the cluster that it means does not.
            cluster_identifier=stack,
            enable_server_side_apply=True,
            delete_unreachable=True,
            # Pods start anew by a checksum; taking a ConfigMap away first would leave them without.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=child,
        )
        self.register_outputs({"name": stack})

    def _control_plane(
        self,
        target: EksTarget,
        version: str,
        network: Network,
        role: aws.iam.Role,
        key: aws.kms.Key,
        ready: list[pulumi.Resource],
    ) -> eks.Cluster:
        public = target.endpoint.public_cidrs
        return eks.Cluster(
            self.name,
            name=self.name,
            version=version,
            vpc_id=network.vpc_id,
            private_subnet_ids=network.subnets_of(target.zones),
            service_role=role,
            authentication_mode=eks.AuthenticationMode.API,
            access_entries={
                f"admin-{place}": eks.AccessEntryArgs(
                    principal_arn=admin,
                    access_policies={
                        "cluster": eks.AccessPolicyAssociationArgs(
                            policy_arn=_CLUSTER_ADMIN,
                            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(
                                type="cluster"
                            ),
                        )
                    },
                )
                for place, admin in enumerate(target.admins)
            },
            endpoint_private_access=True,
            endpoint_public_access=bool(public),
            public_access_cidrs=[*public] or None,
            enabled_cluster_log_types=list(LOG_TYPES),
            encryption_config_key_arn=key.arn,
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            deletion_protection=target.deletion_protection,
            skip_default_node_group=True,
            skip_default_security_groups=True,
            create_instance_role=False,
            create_oidc_provider=False,  # Pod Identity needs none
            bootstrap_self_managed_addons=False,
            use_default_vpc_cni=True,
            kube_proxy_addon_options=eks.KubeProxyAddonOptionsArgs(enabled=False),
            coredns_addon_options=eks.CoreDnsAddonOptionsArgs(enabled=False),
            tags=tags(self.name),
            # EKS chooses one that does not overlap a VPC that it does not know better.
            kubernetes_service_ip_address_range=(
                service_network(target.vpc.cidr) if isinstance(target.vpc, NewVpc) else None
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*network.ready, *ready]),
        )
