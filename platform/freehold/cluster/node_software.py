"""What nodes and pods need besides Kubernetes: GPUs, load balancers, scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from freehold.catalog.release import Release

from . import iam
from .cluster import Cluster
from .gpu_node_group import GpuNodes
from .gpu_software import GpuSoftware
from .network import Network
from .nodes import SYSTEM
from .software_policies import autoscaler_policy, load_balancer_policy
from .tags import tags
from .targets import NODE_GROUP_LABEL, PodSecurity, pod_security_labels

_ON_SYSTEM_NODES = {NODE_GROUP_LABEL: SYSTEM}


@dataclass(frozen=True)
class Chart:
    """One Helm release. The chart's version is the release's."""

    name: str
    namespace: str
    values: Mapping[str, Any]
    after: tuple[pulumi.Resource, ...] = ()


class NodeSoftware(pulumi.ComponentResource):
    """What drives GPUs, and controllers: a namespace, charts and their identities. Without GPUs only the
    load balancer's controller."""

    ready: tuple[pulumi.Resource, ...]

    def __init__(
        self,
        cluster: Cluster,
        region: str,
        network: Network,
        groups: Sequence[GpuNodes],
        release: Release,
        gpu_metrics: str,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:NodeSoftware", "node-software", {}, opts)
        self._cluster, self._release, self._after = cluster, release, after
        controllers = self._namespace("controllers", "baseline")
        balancer = self._load_balancer(region, network)
        gpus: GpuSoftware | None = None
        charts = [
            Chart(
                "aws-load-balancer-controller",
                "controllers",
                balancer_values(cluster.name, region) | {"vpcId": network.vpc_id},
                (controllers, *balancer),
            )
        ]
        if groups:
            child = pulumi.ResourceOptions(parent=self)
            gpus = GpuSoftware(cluster, groups, release, gpu_metrics, after, child)
            # Its webhooks call the API of every other chart's objects: it starts by itself.
            charts.append(Chart("keda", "controllers", _KEDA, (controllers,)))
        if any(group.autoscaled for group in groups):
            charts.append(
                Chart(
                    "cluster-autoscaler",
                    "controllers",
                    autoscaler_values(cluster.name, region),
                    (controllers, *self._autoscaler()),
                )
            )
        self.ready = (*(self._release_of(chart) for chart in charts), *(gpus.ready if gpus else ()))
        self.register_outputs({})

    def _options(self, after: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self,
            provider=self._cluster.provider,
            depends_on=[*self._after, *after],
            deleted_with=self._cluster.eks,
        )

    def _namespace(self, name: str, level: PodSecurity) -> k8s.core.v1.Namespace:
        return k8s.core.v1.Namespace(
            name,
            metadata={"name": name, "labels": pod_security_labels(level)},
            opts=self._options([]),
        )

    def _release_of(self, chart: Chart) -> k8s.helm.v3.Release:
        pinned = self._release.charts[chart.name]
        return k8s.helm.v3.Release(
            chart.name,
            name=chart.name,
            namespace=chart.namespace,
            chart=chart.name,
            version=pinned["version"],
            repository_opts={"repo": pinned["repository"]},
            values=dict(chart.values),
            atomic=True,
            timeout=600,
            opts=self._options(chart.after),
        )

    def _load_balancer(self, region: str, network: Network) -> list[pulumi.Resource]:
        return self._pod_role(
            "aws-load-balancer-controller", load_balancer_policy(self._cluster.name, region)
        )

    def _autoscaler(self) -> list[pulumi.Resource]:
        return self._pod_role("cluster-autoscaler", autoscaler_policy(self._cluster.name))

    def _pod_role(self, name: str, policy: str) -> list[pulumi.Resource]:
        user = iam.PodUser(self._cluster.cluster_name, "controllers", name)
        _, ready = iam.pod_role(
            name,
            user,
            pulumi.ResourceOptions(parent=self),
            tags=tags(self._cluster.name),
            policy=policy,
        )
        return ready


_KEDA: dict[str, Any] = {
    "operator": {"replicaCount": 2},
    "nodeSelector": _ON_SYSTEM_NODES,
    "podDisruptionBudget": {"operator": {"minAvailable": 1}},
}


def balancer_values(cluster: str, region: str) -> dict[str, Any]:
    """Services with its class only: it serves no Ingress and changes no other Service."""
    return {
        "clusterName": cluster,
        "defaultTags": tags(cluster),  # on every load balancer, so that a forgotten one is found
        "region": region,  # pods do not reach the instance's metadata
        "replicaCount": 2,
        "serviceAccount": {"create": True, "name": "aws-load-balancer-controller"},
        "enableServiceMutatorWebhook": False,
        "createIngressClassResource": False,
        "enableShield": False,
        "enableWaf": False,
        "enableWafv2": False,
        "nodeSelector": _ON_SYSTEM_NODES,
        "podDisruptionBudget": {"maxUnavailable": 1},
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"memory": "256Mi"},
        },
    }


def autoscaler_values(cluster: str, region: str) -> dict[str, Any]:
    return {
        "cloudProvider": "aws",
        "awsRegion": region,
        "autoDiscovery": {"clusterName": cluster},
        "rbac": {"serviceAccount": {"create": True, "name": "cluster-autoscaler"}},
        "fullnameOverride": "cluster-autoscaler",
        "nodeSelector": _ON_SYSTEM_NODES,
        "extraArgs": {
            # A model takes minutes to load: a node that is not needed for ten is not needed.
            "scale-down-unneeded-time": "10m",
            "skip-nodes-with-local-storage": False,  # emptyDir on NVMe holds nothing but caches
            "expander": "least-waste",
        },
        "resources": {
            "requests": {"cpu": "50m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        },
    }
