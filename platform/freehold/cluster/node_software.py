"""Charts that make a cluster one for GPUs: device plugin, GPU metrics, load balancers, scaling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from freehold.catalog.release import Release

from . import iam
from .cluster import Cluster
from .gpu_node_group import GPU_TAINT, GpuNodes
from .network import Network
from .nodes import SYSTEM
from .software_policies import autoscaler_policy, load_balancer_policy
from .tags import tags
from .targets import NODE_GROUP_LABEL, PodSecurity, pod_security_labels

_ON_SYSTEM_NODES = {NODE_GROUP_LABEL: SYSTEM}
_ON_GPU_NODES = {"nvidia.com/gpu.present": "true"}


@dataclass(frozen=True)
class Chart:
    """One Helm release. The chart's version is the release's."""

    name: str
    namespace: str
    values: Mapping[str, Any]
    after: tuple[pulumi.Resource, ...] = ()


class NodeSoftware(pulumi.ComponentResource):
    """Namespaces, charts and identities. Two namespaces: what drives GPUs must be privileged."""

    ready: tuple[pulumi.Resource, ...]

    def __init__(
        self,
        cluster: Cluster,
        region: str,
        network: Network,
        groups: Sequence[GpuNodes],
        release: Release,
        gpu_metrics: Mapping[str, Any],
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:NodeSoftware", "node-software", {}, opts)
        self._cluster, self._release, self._after = cluster, release, after
        drivers = self._namespace("gpu-drivers", "privileged")
        controllers = self._namespace("controllers", "baseline")
        balancer = self._load_balancer(region, network)
        charts = [
            Chart("nvidia-device-plugin", "gpu-drivers", device_plugin_values(groups), (drivers,)),
            Chart("dcgm-exporter", "gpu-drivers", {**_DCGM, **gpu_metrics}, (drivers,)),
            Chart(
                "aws-load-balancer-controller",
                "controllers",
                balancer_values(cluster.name, region) | {"vpcId": network.vpc_id},
                (controllers, *balancer),
            ),
            # Its webhooks call the API of every other chart's objects: it starts by itself.
            Chart("keda", "controllers", _KEDA, (controllers,)),
        ]
        if any(group.autoscaled for group in groups):
            charts.append(
                Chart(
                    "cluster-autoscaler",
                    "controllers",
                    autoscaler_values(cluster.name, region),
                    (controllers, *self._autoscaler()),
                )
            )
        self.ready = tuple(self._release_of(chart) for chart in charts)
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


def device_plugin_values(groups: Sequence[GpuNodes]) -> dict[str, Any]:
    """One configuration for each number of pools that share a GPU; a node's label picks its own."""
    names = {group.labels["nvidia.com/device-plugin.config"] for group in groups} | {"exclusive"}
    return {
        "config": {
            "default": "exclusive",
            "map": {name: yaml.safe_dump(_device_config(name)) for name in sorted(names)},
        },
        "affinity": {},
        "nodeSelector": _ON_GPU_NODES,
        "tolerations": [GPU_TAINT.to_kubernetes()],
    }


def _device_config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "none"}}
    if name.startswith("shared-"):
        config["sharing"] = {
            "timeSlicing": {
                # A pod that asks for two slices would get one GPU twice, and think it has two.
                "failRequestsGreaterThanOne": True,
                "resources": [
                    {"name": "nvidia.com/gpu", "replicas": int(name.removeprefix("shared-"))}
                ],
            }
        }
    return config


_DCGM: dict[str, Any] = {
    "nodeSelector": _ON_GPU_NODES,
    "tolerations": [GPU_TAINT.to_kubernetes()],
    # Prometheus finds its pods by label; a ServiceMonitor needs an operator that may not be there.
    "serviceMonitor": {"enabled": False},
}
_KEDA: dict[str, Any] = {
    "operator": {"replicaCount": 2},
    "nodeSelector": _ON_SYSTEM_NODES,
    "podDisruptionBudget": {"operator": {"minAvailable": 1}},
}


def balancer_values(cluster: str, region: str) -> dict[str, Any]:
    """Services with its class only: it serves no Ingress and changes no other Service."""
    return {
        "clusterName": cluster,
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
