"""The gateway on Kubernetes: Envoys behind one address, two pickers behind the Envoys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Target
from freehold.gateway.in_pod import settings_of
from freehold.gateway.launch import envoy_argv
from freehold.gateway.model import Gateway
from freehold.planning.plan import Plan

from .drain import drain_of
from .front_door import FrontDoor
from .gateway_keys import gateway_keys, key_secret_name
from .gateway_plan import TLS_FOLDER, gateway_of
from .images import Images
from .names import ADMIN_PORT, DOOR_PORT, STATS_PORT, Names
from .picker import Pickers
from .pods import (
    NODE,
    ZONE,
    digest,
    disruption_budget,
    empty_dir,
    metadata,
    mount,
    pod_spec,
    pod_template,
    selector,
    spread_over,
)
from .security import container_security

_ENVOY_USER = 101  # `envoy` of the official image
_SETTINGS, _KEYS, _RUN = "/etc/freehold/gateway", "/etc/freehold/keys", "/run/envoy"
_THREADS = 2
# One Envoy thread takes 15,000 to 20,000 small requests a second (measured 2026-11-23, Envoy 1.40): half
# a core is plenty for what GPUs answer, and beyond 70 % of it another replica comes.
_CPU, _CPU_TARGET_PERCENT = "500m", 70
# 150 MiB at rest (2026-11-23); bodies are read whole, so the bound leaves room for many of the largest.
_MEMORY_REQUEST, _MEMORY_LIMIT = "256Mi", "2Gi"
# A network load balancer goes on sending for two to three minutes to a target that has left (working
# figure, from reports on the load balancer controller); an ingress controller for seconds.
_LINGER_SECONDS = {"load_balancer": 180, "ingress": 15}
_GOING_SECONDS = 10


class GatewayDeployment(pulumi.ComponentResource):
    """Creates a Secret a tenant, the settings, Envoys with budget, spread and autoscaling, the pickers,
    and the way in (a load balancer or an Ingress).

    Outputs: `base_url`, and `keys` by tenant, of those that no store keeps.
    """

    base_url: pulumi.Output[str]
    keys: Mapping[str, pulumi.Output[str]]

    def __init__(
        self,
        plan: Plan,
        names: Names,
        target: Target,
        images: Images,
        opts: pulumi.ResourceOptions,
        ready: tuple[pulumi.Resource, ...] = (),
    ) -> None:
        super().__init__("freehold:serving:GatewayDeployment", "gateway", None, opts)
        options = target.options(self, depends_on=ready)
        own_certificate = plan.gateway.tls is not None and (
            target.front_door.kind == "load_balancer" and not target.front_door.terminates_tls
        )
        gateway = gateway_of(plan, names, own_certificate=own_certificate)
        child = pulumi.ResourceOptions(parent=self)
        pickers: list[pulumi.Resource] = []
        if gateway.picker:
            pickers.append(Pickers(gateway, names, target, images.gateway, child, ready))
        keys = gateway_keys(plan.gateway.keys, names, target, self, ready)
        self.keys = keys.values
        settings = json.dumps(settings_of(gateway), indent=2, sort_keys=True)
        about = metadata("gateway", names.gateway, "gateway")
        files = k8s.core.v1.ConfigMap(
            "gateway",
            metadata=about,
            data={"gateway.json": settings, "drain.sh": drain_script()},
            opts=options,
        )
        account = k8s.core.v1.ServiceAccount(
            "gateway", metadata=about, automount_service_account_token=False, opts=options
        )
        deployment = k8s.apps.v1.Deployment(
            "gateway",
            metadata=about,
            spec=_deployment(plan, target, images, gateway, keys.digest, settings),
            opts=pulumi.ResourceOptions.merge(
                target.options(self, depends_on=[*ready, account, files, *keys.objects, *pickers]),
                pulumi.ResourceOptions(ignore_changes=["spec.replicas"]),  # the autoscaler's word
            ),
        )
        k8s.policy.v1.PodDisruptionBudget(
            "gateway", metadata=about, spec=disruption_budget("gateway"), opts=options
        )
        k8s.autoscaling.v2.HorizontalPodAutoscaler(
            "gateway",
            metadata=about,
            spec=_autoscaler(gateway.replicas),
            opts=target.options(self, depends_on=[deployment]),
        )
        door = FrontDoor(plan, names, target, child, ready)
        self.base_url = door.base_url
        self.register_outputs({"baseUrl": self.base_url})


def drain_script() -> str:
    return resources.files("freehold.serving").joinpath("drain.sh").read_text(encoding="utf-8")


def _deployment(
    plan: Plan,
    target: Target,
    images: Images,
    gateway: Gateway,
    keys: pulumi.Output[str],
    settings: str,
) -> k8s.apps.v1.DeploymentSpecArgs:
    """A new set of pods takes over before an old one goes, whatever changed: settings and keys are in
    the pods' annotations, by digest."""
    linger = _LINGER_SECONDS[target.front_door.kind]
    most = linger + max(drain_of(pool).engine for pool in plan.pools)
    spec = pod_spec(
        target,
        target.system,
        service_account="gateway",
        user=_ENVOY_USER,
        grace_seconds=most + _GOING_SECONDS,
        init_containers=[_configure(images.gateway)],
        containers=[
            _envoy(images.envoy, linger, most, own_certificate=gateway.certificate is not None)
        ],
        volumes=[*_volumes(plan, gateway)],
        spread=[spread_over(ZONE, "gateway"), spread_over(NODE, "gateway")],
    )
    template = pod_template(spec, "gateway")
    template.metadata = k8s.meta.v1.ObjectMetaArgs(
        labels=metadata("", "", "gateway").labels,
        annotations={
            "freehold/settings": digest(settings + drain_script()),
            "freehold/keys": keys,
        },
    )
    return k8s.apps.v1.DeploymentSpecArgs(
        replicas=gateway.replicas,
        revision_history_limit=3,
        progress_deadline_seconds=most + 300,
        strategy=k8s.apps.v1.DeploymentStrategyArgs(
            type="RollingUpdate",
            rolling_update=k8s.apps.v1.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
        ),
        selector=selector("gateway"),
        template=template,
    )


def _configure(image: pulumi.Input[str]) -> k8s.core.v1.ContainerArgs:
    """Puts settings and keys together for Envoy; into memory, so that keys touch no disk."""
    return k8s.core.v1.ContainerArgs(
        name="configure",
        image=image,
        command=["python3", "-m", "freehold.gateway.in_pod"],
        args=[f"{_SETTINGS}/gateway.json", _KEYS, f"{_RUN}/envoy.json"],
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "256Mi"}
        ),
        security_context=container_security(),
        volume_mounts=[
            mount("settings", _SETTINGS, read_only=True),
            mount("keys", _KEYS, read_only=True),
            mount("run", _RUN),
        ],
    )


def _envoy(
    image: str, linger: int, most: int, *, own_certificate: bool
) -> k8s.core.v1.ContainerArgs:
    ready = k8s.core.v1.HTTPGetActionArgs(path="/ready", port=STATS_PORT)
    tls = [mount("tls", TLS_FOLDER, read_only=True)] if own_certificate else []
    return k8s.core.v1.ContainerArgs(
        name="envoy",
        image=image,
        command=["envoy"],
        args=[
            *envoy_argv(Path(_RUN) / "envoy.json", concurrency=_THREADS)[1:],
            # Once told to drain, every answer asks its client to connect anew; listeners stay open
            # longer than the pod lives.
            *("--drain-strategy", "immediate", "--drain-time-s", str(2 * most)),
        ],
        ports=[
            k8s.core.v1.ContainerPortArgs(name="http", container_port=DOOR_PORT),
            k8s.core.v1.ContainerPortArgs(name="metrics", container_port=STATS_PORT),
        ],
        readiness_probe=k8s.core.v1.ProbeArgs(http_get=ready, period_seconds=2),
        liveness_probe=k8s.core.v1.ProbeArgs(
            http_get=ready, period_seconds=10, timeout_seconds=5, failure_threshold=6
        ),
        lifecycle=k8s.core.v1.LifecycleArgs(
            pre_stop=k8s.core.v1.LifecycleHandlerArgs(
                exec_=k8s.core.v1.ExecActionArgs(
                    command=[
                        *("bash", f"{_SETTINGS}/drain.sh"),
                        *(str(ADMIN_PORT), str(linger), str(most)),
                    ]
                )
            )
        ),
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": _CPU, "memory": _MEMORY_REQUEST}, limits={"memory": _MEMORY_LIMIT}
        ),
        security_context=container_security(),
        volume_mounts=[
            mount("settings", _SETTINGS, read_only=True),
            mount("run", _RUN, read_only=True),
            *tls,
        ],
    )


def _volumes(plan: Plan, gateway: Gateway) -> list[k8s.core.v1.VolumeArgs]:
    keys = [
        k8s.core.v1.VolumeProjectionArgs(
            secret=k8s.core.v1.SecretProjectionArgs(
                name=key_secret_name(key.tenant),
                items=[k8s.core.v1.KeyToPathArgs(key="key", path=key.tenant)],
            )
        )
        for key in gateway.keys
    ]
    volumes = [
        k8s.core.v1.VolumeArgs(
            name="settings", config_map=k8s.core.v1.ConfigMapVolumeSourceArgs(name="gateway")
        ),
        k8s.core.v1.VolumeArgs(
            name="keys", projected=k8s.core.v1.ProjectedVolumeSourceArgs(sources=keys)
        ),
        empty_dir("run", "16Mi", "Memory"),
    ]
    if gateway.certificate:
        assert plan.gateway.tls is not None and plan.gateway.tls.secret is not None
        secret = k8s.core.v1.SecretVolumeSourceArgs(secret_name=plan.gateway.tls.secret)
        volumes.append(k8s.core.v1.VolumeArgs(name="tls", secret=secret))
    return volumes


def _autoscaler(replicas: int) -> k8s.autoscaling.v2.HorizontalPodAutoscalerSpecArgs:
    return k8s.autoscaling.v2.HorizontalPodAutoscalerSpecArgs(
        scale_target_ref=k8s.autoscaling.v2.CrossVersionObjectReferenceArgs(
            api_version="apps/v1", kind="Deployment", name="gateway"
        ),
        min_replicas=replicas,
        max_replicas=2 * replicas,
        metrics=[
            k8s.autoscaling.v2.MetricSpecArgs(
                type="Resource",
                resource=k8s.autoscaling.v2.ResourceMetricSourceArgs(
                    name="cpu",
                    target=k8s.autoscaling.v2.MetricTargetArgs(
                        type="Utilization", average_utilization=_CPU_TARGET_PERCENT
                    ),
                ),
            )
        ],
    )
