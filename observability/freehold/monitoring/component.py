"""Prometheus, Alertmanager and Grafana on a cluster, with Freehold's rules, monitors and dashboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Scheduling, Target, pod_security_labels
from freehold.config.target import ExistingCluster
from freehold.planning.plan import Plan

from .dashboards.build import CHOSEN_ALERT, DASHBOARDS, RUNBOOK
from .monitors import pod_monitors
from .rules import rule_files
from .values import AlertRoutes, Placement, chart_values

CHART = "kube-prometheus-stack"
PROMETHEUS_PORT = 9090
_GRAFANA_SECRET = "grafana-admin"
# What a chart's values may be changed to by whoever needs it: merged over ours, deeply.
Values = Mapping[str, Any]


@dataclass(frozen=True)
class MonitoringArgs:
    """What the component needs besides the plan."""

    plan: Plan
    target: Target
    namespace: str
    """Its own, which it creates."""
    models: str
    """The namespace of engines."""
    gateway: str
    """The namespace of gateway and pickers."""
    node_cache: str | None = None
    """The namespace of caches that a node has one of; None where each is beside an engine."""
    grafana_password: pulumi.Input[str] | None = None
    """Of the user `admin`; without one there is no Grafana, rather than one with a known password."""
    routes: AlertRoutes = field(default_factory=AlertRoutes)
    remote_write: Sequence[Mapping[str, Any]] = ()
    """Prometheus's `remoteWrite` entries, in the operator's words; credentials by Secret reference."""
    budget_usd_per_month: float | None = None
    values_override: Values = field(default_factory=dict)


class Monitoring(pulumi.ComponentResource):
    """Everything that watches one stack. Prometheus answers at `prometheus.<namespace>.svc:9090`."""

    namespace: k8s.core.v1.Namespace

    def __init__(self, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("freehold:monitoring:Monitoring", args.plan.stack, None, opts)
        self._args = args
        self.namespace = self._namespace()
        secrets = [self._admin(args.grafana_password)] if args.grafana_password is not None else []
        release = self._release([self.namespace, *secrets])
        self._service(release)
        self._rules(release)
        self._monitors(release)
        if secrets:
            self._dashboards(release)
        self.register_outputs({})

    def _namespace(self) -> k8s.core.v1.Namespace:
        # node_exporter reads the node's own network, processes and disks.
        labels = pod_security_labels("privileged")
        return k8s.core.v1.Namespace(
            self._args.namespace,
            metadata={
                "name": self._args.namespace,
                "labels": {**labels, "app.kubernetes.io/part-of": "freehold"},
            },
            opts=self._args.target.options(self),
        )

    def _admin(self, password: pulumi.Input[str]) -> k8s.core.v1.Secret:
        return k8s.core.v1.Secret(
            _GRAFANA_SECRET,
            metadata={"name": _GRAFANA_SECRET, "namespace": self._args.namespace},
            string_data={"admin-user": "admin", "admin-password": password},
            opts=self._args.target.options(self, depends_on=[self.namespace]),
        )

    def _release(self, after: Sequence[pulumi.Resource]) -> k8s.helm.v3.Release:
        args, chart = self._args, self._args.plan.release.charts[CHART]
        prometheus = args.plan.observability.prometheus
        assert prometheus is not None, "monitoring is for plans with observability.prometheus"
        values = chart_values(
            prometheus,
            stack=args.plan.stack,
            storage_class=args.target.storage.block,
            placement=_placement(args.target.system),
            grafana_secret=_GRAFANA_SECRET if args.grafana_password is not None else None,
            routes=args.routes,
            hours=args.plan.hours,
            remote_write=tuple(args.remote_write),
        )
        mirror = args.target.registry_mirror
        return k8s.helm.v3.Release(
            CHART,
            name=CHART,
            namespace=args.namespace,
            # A mirror holds the chart beside the images (`freehold render --bundle`).
            chart=f"oci://{mirror.rstrip('/')}/charts/{CHART}" if mirror else CHART,
            version=chart["version"],
            repository_opts=None if mirror else {"repo": chart["repository"]},
            values=_merged(values, args.values_override),
            atomic=True,
            timeout=600,
            # Its claim's disk exists outside the cluster.
            opts=args.target.options(self, owns_outside=True, depends_on=after),
        )

    def _service(self, release: pulumi.Resource) -> None:
        """A short name that does not hang on the chart's, for KEDA and for people."""
        k8s.core.v1.Service(
            "prometheus",
            metadata={"name": "prometheus", "namespace": self._args.namespace},
            spec={
                "selector": {"app.kubernetes.io/name": "prometheus"},
                "ports": [{"name": "http", "port": PROMETHEUS_PORT}],
            },
            opts=self._after(release),
        )

    def _rules(self, release: pulumi.Resource) -> None:
        args = self._args
        files = rule_files(args.plan, cluster=True, budget_usd_per_month=args.budget_usd_per_month)
        for name, rules in files.items():
            self._custom(
                {
                    "apiVersion": "monitoring.coreos.com/v1",
                    "kind": "PrometheusRule",
                    "metadata": {"name": f"freehold-{name}", "namespace": args.namespace},
                    "spec": rules,
                },
                release,
            )

    def _monitors(self, release: pulumi.Resource) -> None:
        args = self._args
        found = pod_monitors(
            args.models,
            args.gateway,
            cache=args.plan.cache is not None,
            node_cache=args.node_cache,
            gpu_operator=isinstance(args.plan.target, ExistingCluster),
        )
        for monitor in found:
            self._custom(monitor.to_kubernetes(args.namespace), release)

    def _dashboards(self, release: pulumi.Resource) -> None:
        """Grafana's sidecar picks up every ConfigMap with this label."""
        runbook = self._args.plan.observability.runbook_url.replace("{alert}", CHOSEN_ALERT)
        for path in sorted(DASHBOARDS.glob("*.json")):
            text = path.read_text().replace(RUNBOOK, runbook)
            k8s.core.v1.ConfigMap(
                f"dashboard-{path.stem}",
                metadata={
                    "name": f"dashboard-{path.stem}",
                    "namespace": self._args.namespace,
                    "labels": {"grafana_dashboard": "1"},
                },
                data={path.name: text},
                opts=self._after(release),
            )

    def _custom(self, item: dict[str, Any], release: pulumi.Resource) -> None:
        k8s.apiextensions.CustomResource(
            f"{item['kind'].lower()}-{item['metadata']['name']}",
            api_version=item["apiVersion"],
            kind=item["kind"],
            metadata=item["metadata"],
            spec=item["spec"],
            opts=self._after(release),
        )

    def _after(self, release: pulumi.Resource) -> pulumi.ResourceOptions:
        return self._args.target.options(self, depends_on=[self.namespace, release])


def _placement(scheduling: Scheduling) -> Placement:
    tolerations = tuple(one.to_kubernetes() for one in scheduling.tolerations)
    return Placement(scheduling.node_selector, tolerations)


def _merged(ours: dict[str, Any], theirs: Values) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in theirs.items():
        mine = merged.get(key)
        if isinstance(mine, dict) and isinstance(value, Mapping):
            merged[key] = _merged(mine, value)
        else:
            merged[key] = value
    return merged
