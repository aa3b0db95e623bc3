"""Which pods Prometheus scrapes on a cluster, under the same labels as on a laptop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .metrics import CACHE, ENGINE, GATEWAY, PICKER


@dataclass(frozen=True)
class PodMonitor:
    """One kind of pod: where it is, how it is labelled, the name of its metrics port."""

    job: str
    app: str
    """Its label `app.kubernetes.io/name`, or another that is named."""
    namespace: str | None
    """Any when None."""
    port: str
    path: str = "/metrics"
    of_pool: bool = False
    """Whether it belongs to a pool, and the pod is a worker of it."""
    label: str = "app.kubernetes.io/name"

    def to_kubernetes(self, namespace: str) -> dict[str, Any]:
        """The object, which lives in `namespace`."""
        return {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": {"name": self.job, "namespace": namespace},
            "spec": {
                "namespaceSelector": self._where(),
                "selector": {"matchLabels": {self.label: self.app}},
                "podMetricsEndpoints": [
                    {"port": self.port, "path": self.path, "relabelings": self._relabelings()}
                ],
            },
        }

    def _where(self) -> dict[str, Any]:
        return {"matchNames": [self.namespace]} if self.namespace else {"any": True}

    def _relabelings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{"targetLabel": "job", "replacement": self.job}]
        if self.of_pool:
            instance = "__meta_kubernetes_pod_label_app_kubernetes_io_instance"
            found.append({"sourceLabels": [instance], "targetLabel": "pool"})
            found.append({"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "worker"})
        return found


def pod_monitors(
    models: str,
    gateway: str,
    *,
    cache: bool,
    node_cache: str | None = None,
    gpu_operator: bool = False,
) -> list[PodMonitor]:
    """Everything of a stack that tells metrics, by the namespaces of its engines and its gateway, and of
    its caches where these are not beside the engines. DCGM's exporter is our chart's, or that of NVIDIA's
    GPU Operator."""
    # Whoever keeps the cluster chose the namespace. Labels: dcgm-exporter's chart; the operator's
    # assets/state-dcgm-exporter (NVIDIA/gpu-operator, read 2026-11-24).
    dcgm = PodMonitor("dcgm", "dcgm-exporter", None, "metrics")
    if gpu_operator:
        dcgm = PodMonitor("dcgm", "nvidia-dcgm-exporter", None, "metrics", label="app")
    found = [
        PodMonitor(ENGINE, "engine", models, "http", of_pool=True),
        PodMonitor(GATEWAY, "gateway", gateway, "metrics", path="/stats/prometheus"),
        PodMonitor(PICKER, "picker", gateway, "metrics"),
        dcgm,
    ]
    if cache:
        app, where = ("cache", node_cache) if node_cache else ("engine", models)
        found.append(PodMonitor(CACHE, app, where, "cache-metrics", of_pool=True))
    return found
