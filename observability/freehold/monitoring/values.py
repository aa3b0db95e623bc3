"""Values of the kube-prometheus-stack chart (88.5.3) for a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from freehold.config.observability import Prometheus
from freehold.config.stack import Hours
from freehold.config.target import ExistingCluster

from .metrics import NODE_LABELS, POD_LABELS

SCRAPE_SECONDS = 15
# Prometheus may fill this share of its volume before the oldest goes, whatever the retention says.
_FILL = 0.85
_DAYS = {
    **{"mon": "monday", "tue": "tuesday", "wed": "wednesday", "thu": "thursday", "fri": "friday"},
    **{"sat": "saturday", "sun": "sunday"},
}


@dataclass(frozen=True)
class AlertRoutes:
    """Where alerts go: Alertmanager receivers in its own words, by the severity that they take.

    Without any, alerts are seen in Grafana and nobody is told."""

    page: Mapping[str, Any] | None = None
    """Such as `{"pagerduty_configs": [...]}`. Secrets belong into files of a mounted Secret
    (`routing_key_file`), never in here."""
    ticket: Mapping[str, Any] | None = None
    watchdog: Mapping[str, Any] | None = None
    """Who is told every minute that all is well, and misses it when it is not."""


@dataclass(frozen=True)
class Placement:
    """Where pods of the chart run."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()

    def to_values(self) -> dict[str, Any]:
        return {"nodeSelector": dict(self.node_selector), "tolerations": list(self.tolerations)}


def chart_values(
    prometheus: Prometheus,
    *,
    stack: str,
    storage_class: str,
    placement: Placement,
    grafana_secret: str | None,
    routes: AlertRoutes,
    hours: Hours | None = None,
    remote_write: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    """Everything that differs from the chart's defaults.

    `grafana_secret` holds `admin-user` and `admin-password`; without it there is no Grafana. Rules,
    monitors and dashboards are Freehold's own objects, so the chart's are off.
    """
    where = placement.to_values()
    return {
        "defaultRules": {"create": False},
        # EKS and most others keep these out of reach.
        "kubeControllerManager": {"enabled": False},
        "kubeScheduler": {"enabled": False},
        "kubeEtcd": {"enabled": False},
        "kubeProxy": {"enabled": False},
        "prometheusOperator": where,
        "kube-state-metrics": {
            **where,
            "metricLabelsAllowlist": [
                f"pods=[{','.join(POD_LABELS)}]",
                f"nodes=[{','.join(NODE_LABELS)}]",
            ],
        },
        "grafana": _grafana(where, grafana_secret),
        "prometheus": _prometheus(prometheus, stack, storage_class, where, remote_write),
        "alertmanager": {
            "alertmanagerSpec": where,
            "config": alertmanager_config(routes, hours),
        },
    }


# Where the chart's images come from, by the key that says so (values.yaml of kube-prometheus-stack
# 88.5.3 and of its parts: kube-state-metrics 8.4.0, prometheus-node-exporter 4.56.1, grafana 12.11.1).
_REGISTRIES = {
    "alertmanager.alertmanagerSpec.image.registry": "quay.io",
    "grafana.image.registry": "docker.io",
    "grafana.sidecar.image.registry": "quay.io",
    "kube-state-metrics.image.registry": "registry.k8s.io",
    "prometheus-node-exporter.image.registry": "quay.io",
    "prometheus.prometheusSpec.image.registry": "quay.io",
    "prometheusOperator.admissionWebhooks.patch.image.registry": "ghcr.io",
    "prometheusOperator.image.registry": "quay.io",
    "prometheusOperator.prometheusConfigReloader.image.registry": "quay.io",
}


def values_on(cluster: ExistingCluster) -> dict[str, Any]:
    """What differs on a cluster that runs already: what is there is not brought again, and images come
    from where the cluster may pull. Prometheus and Alertmanager stay Freehold's own: an operator that is
    there makes them too."""
    values: dict[str, Any] = {}
    if "prometheus-operator" in cluster.already_runs:
        _put(values, "prometheusOperator.enabled", False)
        _put(values, "crds.enabled", False)
    if "node-exporter" in cluster.already_runs:  # it takes a port of the node, which one can have
        _put(values, "nodeExporter.enabled", False)
    if cluster.registry_mirror:
        for key, registry in _REGISTRIES.items():
            _put(values, key, f"{cluster.registry_mirror.rstrip('/')}/{registry}")
    if cluster.image_pull_secret:
        _put(values, "global.imagePullSecrets", [{"name": cluster.image_pull_secret}])
    return values


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        values = values.setdefault(name, {})
    values[last] = value


def _grafana(where: Mapping[str, Any], secret: str | None) -> dict[str, Any]:
    if secret is None:
        return {"enabled": False}
    return {
        **where,
        "enabled": True,
        "defaultDashboardsEnabled": False,
        "admin": {"existingSecret": secret},
        "grafana.ini": {
            "analytics": {"reporting_enabled": False, "check_for_updates": False},
            "auth.anonymous": {"enabled": False},
            "users": {"allow_sign_up": False},
            "log.console": {"format": "json"},
        },
    }


def _prometheus(
    wanted: Prometheus,
    stack: str,
    storage_class: str,
    where: Mapping[str, Any],
    remote_write: tuple[Mapping[str, Any], ...],
) -> dict[str, Any]:
    claim = {
        "storageClassName": storage_class,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{wanted.storage_gib}Gi"}},
    }
    return {
        "prometheusSpec": {
            **where,
            "scrapeInterval": f"{SCRAPE_SECONDS}s",
            "evaluationInterval": f"{SCRAPE_SECONDS}s",
            "retention": wanted.retention,
            "retentionSize": f"{int(wanted.storage_gib * _FILL * 1024)}MiB",
            "storageSpec": {"volumeClaimTemplate": {"spec": claim}},
            "externalLabels": {"stack": stack},
            # Monitors and rules are found by being there, not by the chart's own label.
            "ruleSelectorNilUsesHelmValues": False,
            "podMonitorSelectorNilUsesHelmValues": False,
            "serviceMonitorSelectorNilUsesHelmValues": False,
            "remoteWrite": [dict(one) for one in remote_write],
            "logFormat": "json",
        }
    }


def alertmanager_config(routes: AlertRoutes, hours: Hours | None) -> dict[str, Any]:
    """Alertmanager's own configuration. Outside a stack's hours its nodes are gone on purpose, and
    alerts that miss them (`needs: gpu-nodes`) tell nobody."""
    given = {"page": routes.page, "ticket": routes.ticket}
    tree = [_route('alertname = "Watchdog"', "watchdog" if routes.watchdog else "nobody")]
    if hours:
        tree.append(
            {
                "matchers": ['needs = "gpu-nodes"'],
                "mute_time_intervals": ["outside-hours"],
                "receiver": "nobody",
                "routes": [_severity(name, bool(config)) for name, config in given.items()],
            }
        )
    tree += [_severity(name, bool(config)) for name, config in given.items()]
    if routes.watchdog:
        tree[0] |= {"group_interval": "1m", "repeat_interval": "1m"}
    receivers = {**given, "watchdog": routes.watchdog}
    return {
        "route": {
            "receiver": "nobody",
            "group_by": ["alertname", "pool"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": tree,
        },
        # A pool that is down explains the workers that are missing.
        "inhibit_rules": [
            {
                "source_matchers": ['alertname = "PoolDown"'],
                "target_matchers": ['alertname = "WorkerDown"'],
                "equal": ["pool"],
            }
        ],
        "receivers": [
            {"name": "nobody"},
            *({"name": name, **config} for name, config in receivers.items() if config),
        ],
        **({"time_intervals": [_outside(hours)]} if hours else {}),
    }


def _severity(name: str, given: bool) -> dict[str, Any]:
    return _route(f'severity = "{name}"', name if given else "nobody")


def _route(matcher: str, receiver: str) -> dict[str, Any]:
    return {"matchers": [matcher], "receiver": receiver}


def _outside(hours: Hours) -> dict[str, Any]:
    """All the time that is not in a stack's hours."""
    working = [_DAYS[day] for day in _DAYS if day in hours.days]
    free = [_DAYS[day] for day in _DAYS if day not in hours.days]
    edges = [("00:00", hours.start), (hours.stop, "24:00")]
    times = [{"start_time": start, "end_time": end} for start, end in edges if start != end]
    parts: list[dict[str, Any]] = [{"weekdays": working, "times": times}]
    if free:
        parts.append({"weekdays": free})
    return {
        "name": "outside-hours",
        "time_intervals": [{**part, "location": hours.timezone} for part in parts],
    }
