"""What every cluster gets, whoever runs it."""

from __future__ import annotations

import pulumi

from freehold.cluster.targets import Target
from freehold.config.target import ExistingCluster
from freehold.monitoring.component import Monitoring, MonitoringArgs
from freehold.monitoring.values import values_on
from freehold.planning.plan import Plan
from freehold.serving.compose import deploy
from freehold.serving.generated_secret import GeneratedSecret
from freehold.serving.kv_cache import on_nodes


def serve(plan: Plan, target: Target) -> None:
    """Engines, gateway and what watches them, on a target, and the program's outputs of it."""
    served = deploy(plan, target)
    for warning in served.warnings:
        pulumi.log.warn(warning)
    pulumi.export("baseUrl", served.base_url)
    pulumi.export("apiKeys", dict(served.keys))
    if plan.observability.prometheus is None:
        return
    names, child = served.names, pulumi.ResourceOptions(parent=served.serving)
    password = pulumi.Output.secret(GeneratedSecret("grafana-password", opts=child).value)
    args = MonitoringArgs(
        plan,
        target,
        names.monitoring,
        names.models,
        names.gateway,
        grafana_password=password,
        node_cache=names.node_cache if on_nodes(plan.cache) else None,
        values_override=values_on(plan.target) if isinstance(plan.target, ExistingCluster) else {},
    )
    Monitoring(args)
    pulumi.export("dashboardsUrl", f"http://kube-prometheus-stack-grafana.{names.monitoring}.svc")
    pulumi.export("dashboardsPassword", password)
