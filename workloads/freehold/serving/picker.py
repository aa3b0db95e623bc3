"""Two pickers: one that all Envoys ask, one that takes over.

Not two at once: each learns what the workers hold from the requests that it places, and two that each
see half would both guess. When both are away Envoy hashes by itself: only cache hits are lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Target
from freehold.gateway.launch import picker_config
from freehold.gateway.model import Gateway

from .gateway_plan import PICKERS, picker_of
from .names import PICKER_HTTP_PORT, PICKER_PORT, Names, labels
from .pods import (
    NODE,
    ZONE,
    digest,
    disruption_budget,
    metadata,
    mount,
    pod_spec,
    pod_template,
    selector,
    spread_over,
)
from .security import container_security

_FOLDER = "/etc/freehold/picker"


class Pickers(pulumi.ComponentResource):
    """Creates, for each of two, a Deployment of one and a Service; and what they share."""

    def __init__(
        self,
        gateway: Gateway,
        names: Names,
        target: Target,
        image: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
        ready: Sequence[pulumi.Resource] = (),
    ) -> None:
        super().__init__("freehold:serving:Pickers", "pickers", None, opts)
        options = target.options(self, depends_on=ready)
        about = metadata("picker", names.gateway, "picker")
        configuration = json.dumps(picker_config(picker_of(gateway)), indent=2, sort_keys=True)
        before: list[pulumi.Resource] = [
            *ready,
            k8s.core.v1.ConfigMap(
                "picker", metadata=about, data={"picker.json": configuration}, opts=options
            ),
            k8s.core.v1.ServiceAccount(
                "picker", metadata=about, automount_service_account_token=False, opts=options
            ),
        ]
        for which in PICKERS:
            name = f"picker-{which}"
            own = metadata(name, names.gateway, "picker", which)
            k8s.core.v1.Service(name, metadata=own, spec=_service(which), opts=options)
            deployment = k8s.apps.v1.Deployment(
                name,
                metadata=own,
                spec=_deployment(which, target, image, configuration),
                opts=target.options(self, depends_on=before),
            )
            before = [*before, deployment]  # one restarts after the other is back
        k8s.policy.v1.PodDisruptionBudget(
            "picker", metadata=about, spec=disruption_budget("picker"), opts=options
        )
        self.register_outputs({})


def _service(which: str) -> k8s.core.v1.ServiceSpecArgs:
    return k8s.core.v1.ServiceSpecArgs(
        selector=labels("picker", which),
        ports=[k8s.core.v1.ServicePortArgs(name="grpc", port=PICKER_PORT, app_protocol="grpc")],
    )


def _deployment(
    which: str, target: Target, image: pulumi.Input[str], configuration: str
) -> k8s.apps.v1.DeploymentSpecArgs:
    health = k8s.core.v1.HTTPGetActionArgs(path="/health", port=PICKER_HTTP_PORT)
    container = k8s.core.v1.ContainerArgs(
        name="picker",
        image=image,
        command=["freehold-picker"],
        args=[f"{_FOLDER}/picker.json"],
        ports=[
            k8s.core.v1.ContainerPortArgs(name="grpc", container_port=PICKER_PORT),
            k8s.core.v1.ContainerPortArgs(name="metrics", container_port=PICKER_HTTP_PORT),
        ],
        readiness_probe=k8s.core.v1.ProbeArgs(http_get=health, period_seconds=2),
        liveness_probe=k8s.core.v1.ProbeArgs(http_get=health, period_seconds=5),
        # 0.1 ms of a core for a 4 KB body and 0.75 for 200 KB, 3.4 MiB for each worker's index when it is
        # full (loadtests/benchmarks/routing/overhead.py, 2026-11-24).
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": "250m", "memory": "256Mi"}, limits={"memory": "1Gi"}
        ),
        security_context=container_security(),
        volume_mounts=[mount("configuration", _FOLDER, read_only=True)],
    )
    spec = pod_spec(
        target,
        target.system,
        service_account="picker",
        grace_seconds=10,
        containers=[container],
        volumes=[
            k8s.core.v1.VolumeArgs(
                name="configuration",
                config_map=k8s.core.v1.ConfigMapVolumeSourceArgs(name="picker"),
            )
        ],
        spread=[spread_over(ZONE, "picker"), spread_over(NODE, "picker")],
    )
    return k8s.apps.v1.DeploymentSpecArgs(
        replicas=1,
        revision_history_limit=3,
        strategy=k8s.apps.v1.DeploymentStrategyArgs(
            type="RollingUpdate",
            rolling_update=k8s.apps.v1.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
        ),
        selector=selector("picker", which),
        template=pod_template(
            spec, "picker", which, {"freehold/configuration": digest(configuration)}
        ),
    )
