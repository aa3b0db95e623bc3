"""What makes a node's GPUs something that pods can ask for, and what watches them.

Both are NVIDIA's programs on every node with GPUs; their objects are ours, so that they are checked like
all others. On a cluster that exists they are the GPU Operator's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml

from freehold.catalog.release import Release

from .cluster import Cluster
from .gpu_node_group import DEVICE_CONFIG_LABEL, GPU_TAINT, GpuNodes
from .targets import pod_security_labels

NAMESPACE = "gpu-drivers"
_ON_GPU_NODES = {"nvidia.com/gpu.present": "true"}
_METRICS_PORT = 9400
_NAME = "app.kubernetes.io/name"
# Where the kubelet takes plugins and tells which pod has which GPU.
_PLUGINS, _PODS = "/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources"
_CONFIGURATION = "/etc/freehold"
_WHY = "freehold/why-privileged"


class GpuSoftware(pulumi.ComponentResource):
    """A privileged namespace that nobody reaches but Prometheus; in it a device plugin for each way of
    sharing a GPU, and DCGM's exporter, as DaemonSets."""

    ready: tuple[pulumi.Resource, ...]

    def __init__(
        self,
        cluster: Cluster,
        groups: Sequence[GpuNodes],
        release: Release,
        gpu_metrics: str,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        """`gpu_metrics`: the exporter's list of fields, which monitoring decides."""
        super().__init__("freehold:cluster:GpuSoftware", "gpu-software", {}, opts)
        self._cluster, self._images = cluster, release.images
        namespace = k8s.core.v1.Namespace(
            NAMESPACE,
            metadata={"name": NAMESPACE, "labels": pod_security_labels("privileged")},
            opts=self._options(after),
        )
        self._options_in = self._options([*after, namespace])
        self._policies()
        shares = sorted({group.labels[DEVICE_CONFIG_LABEL] for group in groups})
        self.ready = (*(self._device_plugin(share) for share in shares), self._dcgm(gpu_metrics))
        self.register_outputs({})

    def _options(self, after: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=self,
            provider=self._cluster.provider,
            depends_on=[*after],
            deleted_with=self._cluster.eks,
        )

    def _policies(self) -> None:
        """The plugin speaks to the kubelet by a socket; the exporter answers whoever watches."""
        both = ["Ingress", "Egress"]
        self._policy("default", {"pod_selector": {}, "policy_types": both})
        watching = {
            "namespace_selector": {"match_labels": {"app.kubernetes.io/part-of": "freehold"}}
        }
        self._policy(
            "dcgm-exporter",
            {
                "pod_selector": {"match_labels": {_NAME: "dcgm-exporter"}},
                "policy_types": ["Ingress"],
                "ingress": [{"from_": [watching], "ports": [{"port": _METRICS_PORT}]}],
            },
        )

    def _policy(self, name: str, spec: Any) -> None:
        k8s.networking.v1.NetworkPolicy(
            f"{NAMESPACE}-{name}",
            metadata={"name": name, "namespace": NAMESPACE},
            spec=spec,
            opts=self._options_in,
        )

    def _device_plugin(self, share: str) -> k8s.apps.v1.DaemonSet:
        name, text = f"device-plugin-{share}", yaml.safe_dump(device_config(share))
        container = k8s.core.v1.ContainerArgs(
            name="device-plugin",
            image=self._images["device-plugin"],
            command=["nvidia-device-plugin"],
            args=[f"--config-file={_CONFIGURATION}/configuration"],
            env=_environment({"NVIDIA_VISIBLE_DEVICES": "all", **_DRIVER}),
            # NVIDIA's chart asks for nothing; a bound, should it leak.
            resources=_resources("20m", "64Mi", "256Mi"),
            security_context=_security(),
            volume_mounts=[_mount("kubelet", _PLUGINS), _mount("configuration", _CONFIGURATION)],
        )
        chosen = {**_ON_GPU_NODES, DEVICE_CONFIG_LABEL: share}
        why = "gives out GPUs over the kubelet's socket, which is root's"
        return self._daemon_set(name, text, container, _PLUGINS, chosen, why)

    def _dcgm(self, counters: str) -> k8s.apps.v1.DaemonSet:
        health = k8s.core.v1.ProbeArgs(
            http_get=k8s.core.v1.HTTPGetActionArgs(path="/health", port=_METRICS_PORT),
            initial_delay_seconds=45,
            period_seconds=5,
        )
        listen = {"DCGM_EXPORTER_KUBERNETES": "true", "DCGM_EXPORTER_LISTEN": f":{_METRICS_PORT}"}
        container = k8s.core.v1.ContainerArgs(
            name="exporter",
            image=self._images["dcgm-exporter"],
            args=["-f", f"{_CONFIGURATION}/configuration"],
            env=_environment({**listen, "NVIDIA_VISIBLE_DEVICES": "all"}),
            ports=[k8s.core.v1.ContainerPortArgs(name="metrics", container_port=_METRICS_PORT)],
            readiness_probe=health,
            liveness_probe=health,
            resources=_resources("100m", "128Mi", "512Mi"),  # of its chart, 4.8.2
            security_context=_security("SYS_ADMIN"),  # for the profiling fields (DCGM_FI_PROF_*)
            volume_mounts=[
                _mount("kubelet", _PODS, read_only=True),
                _mount("configuration", _CONFIGURATION),
            ],
        )
        why = "reads every GPU's counters, and from the kubelet's socket whose it is"
        return self._daemon_set("dcgm-exporter", counters, container, _PODS, _ON_GPU_NODES, why)

    def _daemon_set(
        self,
        name: str,
        configuration: str,
        container: k8s.core.v1.ContainerArgs,
        kubelet: str,
        chosen: Mapping[str, str],
        why: str,
    ) -> k8s.apps.v1.DaemonSet:
        labels = {_NAME: name}
        about = k8s.meta.v1.ObjectMetaArgs(name=name, namespace=NAMESPACE, labels=labels)
        files = k8s.core.v1.ConfigMap(
            name, metadata=about, data={"configuration": configuration}, opts=self._options_in
        )
        digest = hashlib.sha256(configuration.encode()).hexdigest()[:16]
        template = k8s.core.v1.PodTemplateSpecArgs(
            metadata=k8s.meta.v1.ObjectMetaArgs(
                labels=labels, annotations={"freehold/configuration": digest}
            ),
            spec=k8s.core.v1.PodSpecArgs(
                automount_service_account_token=False,
                enable_service_links=False,
                priority_class_name="system-node-critical",
                node_selector=dict(chosen),
                tolerations=[
                    k8s.core.v1.TolerationArgs(
                        key=GPU_TAINT.key,
                        operator="Equal",
                        value=GPU_TAINT.value,
                        effect=GPU_TAINT.effect,
                    )
                ],
                security_context=k8s.core.v1.PodSecurityContextArgs(
                    seccomp_profile=k8s.core.v1.SeccompProfileArgs(type="RuntimeDefault")
                ),
                containers=[container],
                volumes=[
                    k8s.core.v1.VolumeArgs(
                        name="kubelet",
                        host_path=k8s.core.v1.HostPathVolumeSourceArgs(
                            path=kubelet, type="Directory"
                        ),
                    ),
                    k8s.core.v1.VolumeArgs(
                        name="configuration",
                        config_map=k8s.core.v1.ConfigMapVolumeSourceArgs(name=name),
                    ),
                ],
            ),
        )
        return k8s.apps.v1.DaemonSet(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name, namespace=NAMESPACE, labels=labels, annotations={_WHY: why}
            ),
            spec=k8s.apps.v1.DaemonSetSpecArgs(
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=labels), template=template
            ),
            opts=pulumi.ResourceOptions.merge(
                self._options_in, pulumi.ResourceOptions(depends_on=[files])
            ),
        )


_DRIVER = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


def device_config(share: str) -> dict[str, Any]:
    """The device plugin's configuration on nodes with the label `share`."""
    config: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "none"}}
    if share.startswith("shared-"):
        config["sharing"] = {
            "timeSlicing": {
                # A pod that asks for two slices would get one GPU twice, and think it has two.
                "failRequestsGreaterThanOne": True,
                "resources": [
                    {"name": "nvidia.com/gpu", "replicas": int(share.removeprefix("shared-"))}
                ],
            }
        }
    return config


def _environment(values: Mapping[str, str]) -> list[k8s.core.v1.EnvVarArgs]:
    node = k8s.core.v1.EnvVarSourceArgs(
        field_ref=k8s.core.v1.ObjectFieldSelectorArgs(field_path="spec.nodeName")
    )
    return [
        *(k8s.core.v1.EnvVarArgs(name=name, value=value) for name, value in values.items()),
        k8s.core.v1.EnvVarArgs(name="NODE_NAME", value_from=node),
    ]


def _resources(cpu: str, memory: str, most: str) -> k8s.core.v1.ResourceRequirementsArgs:
    return k8s.core.v1.ResourceRequirementsArgs(
        requests={"cpu": cpu, "memory": memory}, limits={"memory": most}
    )


def _security(*added: str) -> k8s.core.v1.SecurityContextArgs:
    return k8s.core.v1.SecurityContextArgs(
        run_as_user=0,
        allow_privilege_escalation=False,
        capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"], add=[*added] or None),
    )


def _mount(name: str, path: str, *, read_only: bool | None = None) -> k8s.core.v1.VolumeMountArgs:
    return k8s.core.v1.VolumeMountArgs(name=name, mount_path=path, read_only=read_only)
