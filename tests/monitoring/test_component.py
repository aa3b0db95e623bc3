"""What the component registers on a cluster, and what it refuses to leave open."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any

import pulumi
import pytest
import yaml
from serving.eks_like import EksLike
from serving.programs import changed_plan, plan_of, program_of
from serving.recorded import Program, record

from freehold.config.stack import Hours
from freehold.monitoring.component import CHART, Monitoring, MonitoringArgs
from freehold.monitoring.dcgm import counters_csv
from freehold.monitoring.metrics import from_source
from freehold.monitoring.monitors import pod_monitors
from freehold.monitoring.rules import alerts
from freehold.monitoring.scaling import trigger_problems
from freehold.monitoring.values import AlertRoutes, alertmanager_config
from freehold.planning.plan import Plan
from freehold.serving.autoscaling import pool_scaling, triggers
from freehold.serving.names import PROMETHEUS_PORT, Names

_NAMES = Names("large")
_PAGER = {"pagerduty_configs": [{"routing_key_file": "/etc/alertmanager/secrets/pager/key"}]}


def _with_chart(plan: Plan) -> Plan:
    """The release may not pin the chart yet; which version it is makes no difference here."""
    repository = "https://prometheus-community.github.io/helm-charts"
    charts = {CHART: {"repository": repository, "version": "88.5.3"}, **plan.release.charts}
    return dataclasses.replace(plan, release=dataclasses.replace(plan.release, charts=charts))


def _run(plan: Plan, *, password: str | None = "a-long-one", **changes: Any) -> Program:
    def program() -> Monitoring:
        args = MonitoringArgs(
            plan=_with_chart(plan),
            target=EksLike(),
            namespace=_NAMES.monitoring,
            models=_NAMES.models,
            gateway=_NAMES.gateway,
            grafana_password=pulumi.Output.secret(password) if password else None,
            **changes,
        )
        return Monitoring(args)

    return record(program)


@cache
def _large() -> Program:
    return _run(plan_of("large"))


def _values(program: Program) -> dict[str, Any]:
    (release,) = (seen for seen in program.seen if seen.type == "kubernetes:helm.sh/v3:Release")
    return release.inputs["values"]


def test_rules_and_dashboards_are_all_there() -> None:
    rules = _large().all("PrometheusRule")
    found = {
        rule["alert"]
        for one in rules
        for group in one["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert found == set(alerts())
    assert {one["metadata"]["namespace"] for one in rules} == {"large-monitoring"}
    boards = [
        one for one in _large().all("ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"]
    ]
    assert len(boards) == 7


def test_every_part_of_a_stack_is_scraped_under_the_laptop_s_labels() -> None:
    monitors = {one["metadata"]["name"]: one["spec"] for one in _large().all("PodMonitor")}
    assert monitors.keys() == {"engine", "gateway", "picker", "cache", "dcgm"}
    engine = monitors["engine"]["podMetricsEndpoints"][0]
    assert {one["targetLabel"] for one in engine["relabelings"]} == {"job", "pool", "worker"}
    assert monitors["gateway"]["podMetricsEndpoints"][0]["path"] == "/stats/prometheus"


def test_monitors_find_pods_and_ports_that_serving_makes() -> None:
    """Selectors and port names against what is really registered."""
    pods: list[tuple[str, dict[str, str], set[str]]] = []
    for kind in ("Deployment", "StatefulSet"):
        for item in program_of("large").all(kind):
            template = item["spec"]["template"]
            spec = template["spec"]
            containers = [*spec.get("initContainers", []), *spec["containers"]]
            ports = {port.get("name") for one in containers for port in one.get("ports", [])}
            pods.append((item["metadata"]["namespace"], template["metadata"]["labels"], ports))
    for monitor in pod_monitors(_NAMES.models, _NAMES.gateway, cache=True):
        if monitor.namespace is None:
            continue
        matched = [
            labels
            for namespace, labels, ports in pods
            if namespace == monitor.namespace
            and labels.get("app.kubernetes.io/name") == monitor.app
            and monitor.port in ports
        ]
        assert matched, monitor
        if monitor.of_pool:
            assert all(labels.get("app.kubernetes.io/instance") for labels in matched), monitor


def test_grafana_has_no_password_that_anybody_knows() -> None:
    values = _values(_large())["grafana"]
    assert values["admin"]["existingSecret"] == "grafana-admin"
    assert values["grafana.ini"]["auth.anonymous"] == {"enabled": False}
    (secret,) = (one for one in _large().seen if one.type == "kubernetes:core/v1:Secret")
    assert "4dabf18193072939515e22adb298388d" in json.dumps(secret.inputs), "a secret to Pulumi"


def test_no_password_no_grafana() -> None:
    program = _run(plan_of("large"), password=None)
    assert _values(program)["grafana"] == {"enabled": False}
    assert program.all("Secret") == program.all("ConfigMap") == []


def test_storage_and_retention_are_the_plan_s() -> None:
    spec = _values(_large())["prometheus"]["prometheusSpec"]
    claim = spec["storageSpec"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"]["requests"]["storage"] == "100Gi"
    assert spec["retention"] == "30d"
    assert spec["retentionSize"] == "87040MiB"


def test_prometheus_answers_where_scaling_asks() -> None:
    service = _large().one("Service", "prometheus")
    assert service["spec"]["ports"] == [{"name": "http", "port": PROMETHEUS_PORT}]
    namespace = service["metadata"]["namespace"]
    assert _NAMES.prometheus_url == f"http://prometheus.{namespace}.svc:{PROMETHEUS_PORT}"


def test_scaling_asks_for_what_exists() -> None:
    two = {"pools": [{"name": "chat", "placement": {"replicas": 2}}], "budget": None}
    plan = changed_plan("large", two)
    chat = plan.pools[0]
    assert chat.placement is not None
    bought = dataclasses.replace(
        chat, placement=dataclasses.replace(chat.placement, capacity="spot")
    )
    scaling = pool_scaling(plan, bought)
    assert scaling is not None
    asked = triggers(scaling, _NAMES)
    assert asked
    assert trigger_problems(asked) == []
    broken = yaml.safe_dump(asked).replace("model_name", "model")
    assert trigger_problems(yaml.safe_load(broken)) != []


def test_alerts_go_where_their_severity_says() -> None:
    config = alertmanager_config(AlertRoutes(page=_PAGER), None)
    routes = {route["matchers"][0]: route["receiver"] for route in config["route"]["routes"]}
    assert routes == {
        'alertname = "Watchdog"': "nobody",
        'severity = "page"': "page",
        'severity = "ticket"': "nobody",
    }
    assert config["receivers"] == [{"name": "nobody"}, {"name": "page", **_PAGER}]
    known = {receiver["name"] for receiver in config["receivers"]}
    assert {route["receiver"] for route in config["route"]["routes"]} <= known


def test_outside_its_hours_nobody_is_told_of_missing_nodes() -> None:
    hours = Hours(days=["mon", "tue"], start="08:00", stop="18:00", timezone="Europe/Berlin")
    config = alertmanager_config(AlertRoutes(page=_PAGER), hours)
    (muted,) = (one for one in config["route"]["routes"] if "mute_time_intervals" in one)
    assert muted["matchers"] == ['needs = "gpu-nodes"']
    (outside,) = config["time_intervals"]
    weekdays = [part["weekdays"] for part in outside["time_intervals"]]
    assert weekdays == [
        ["monday", "tuesday"],
        ["wednesday", "thursday", "friday", "saturday", "sunday"],
    ]
    assert outside["time_intervals"][0]["times"] == [
        {"start_time": "00:00", "end_time": "08:00"},
        {"start_time": "18:00", "end_time": "24:00"},
    ]


def test_runbooks_and_values_can_be_somebody_else_s() -> None:
    url = "https://wiki.example/runbooks/{alert}.html"
    program = _run(
        changed_plan("large", {"observability": {"runbook_url": url}}),
        remote_write=[{"url": "https://store.example/api/v1/write"}],
        values_override={"prometheus": {"prometheusSpec": {"replicas": 2}}},
    )
    text = json.dumps(program.all("PrometheusRule"))
    assert '"runbook": "https://wiki.example/runbooks/PoolDown.html"' in text
    assert "docs/runbooks" not in text
    boards = json.dumps(program.all("ConfigMap"))
    assert "https://wiki.example/runbooks/${__value.text}.html" in boards
    assert "docs/runbooks" not in boards
    spec = _values(program)["prometheus"]["prometheusSpec"]
    assert spec["replicas"] == 2
    assert spec["retention"] == "30d"
    assert spec["remoteWrite"] == [{"url": "https://store.example/api/v1/write"}]


def test_the_dcgm_exporter_is_asked_for_what_is_read_of_it() -> None:
    asked = {line.split(",")[0] for line in counters_csv().splitlines()}
    assert asked == {metric.name for metric in from_source("dcgm")}


@pytest.mark.parametrize("stack", ["small", "large", "onprem"])
def test_it_is_one_component_for_every_stack(stack: str) -> None:
    program = _run(plan_of(stack))
    (component,) = (seen for seen in program.seen if not seen.custom)
    assert component.type == "freehold:monitoring:Monitoring"
    cached = plan_of(stack).cache is not None
    monitors = {one["metadata"]["name"] for one in program.all("PodMonitor")}
    assert ("cache" in monitors) == cached
