"""What every pod of ours has in common: where it runs, as whom, and what it does without."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pulumi_kubernetes as k8s

from freehold.cluster.targets import Identity, Scheduling, Target
from freehold.planning.plan_types import Part

from .names import App, all_labels, labels
from .security import USER, pod_security


def pod_spec(
    target: Target,
    scheduling: Scheduling,
    *,
    service_account: str,
    grace_seconds: int,
    containers: Sequence[k8s.core.v1.ContainerArgs],
    init_containers: Sequence[k8s.core.v1.ContainerArgs] = (),
    volumes: Sequence[k8s.core.v1.VolumeArgs] = (),
    spread: Sequence[k8s.core.v1.TopologySpreadConstraintArgs] = (),
    user: int = USER,
) -> k8s.core.v1.PodSpecArgs:
    return k8s.core.v1.PodSpecArgs(
        service_account_name=service_account,
        # No pod of ours speaks to the Kubernetes API.
        automount_service_account_token=False,
        # Otherwise a Service called "vllm" sets VLLM_PORT in every pod beside it.
        enable_service_links=False,
        node_selector=dict(scheduling.node_selector),
        tolerations=[
            k8s.core.v1.TolerationArgs(
                key=toleration.key,
                operator="Exists" if toleration.value is None else "Equal",
                value=toleration.value,
                effect=toleration.effect,
            )
            for toleration in scheduling.tolerations
        ],
        runtime_class_name=scheduling.runtime_class,
        priority_class_name=target.priority_class,
        image_pull_secrets=[k8s.core.v1.LocalObjectReferenceArgs(name=target.image_pull_secret)]
        if target.image_pull_secret
        else None,
        security_context=pod_security(user),
        termination_grace_period_seconds=grace_seconds,
        topology_spread_constraints=list(spread) or None,
        init_containers=list(init_containers) or None,
        containers=list(containers),
        volumes=list(volumes) or None,
    )


def pod_template(
    spec: k8s.core.v1.PodSpecArgs,
    app: App,
    instance: str | None = None,
    annotations: dict[str, str] | None = None,
    part: Part | None = None,
) -> k8s.core.v1.PodTemplateSpecArgs:
    metadata = k8s.meta.v1.ObjectMetaArgs(
        labels=all_labels(app, instance, part), annotations=annotations or None
    )
    return k8s.core.v1.PodTemplateSpecArgs(metadata=metadata, spec=spec)


def metadata(
    name: str, namespace: str, app: App, instance: str | None = None, part: Part | None = None
) -> k8s.meta.v1.ObjectMetaArgs:
    return k8s.meta.v1.ObjectMetaArgs(
        name=name, namespace=namespace, labels=all_labels(app, instance, part)
    )


def selector(
    app: App, instance: str | None = None, part: Part | None = None
) -> k8s.meta.v1.LabelSelectorArgs:
    return k8s.meta.v1.LabelSelectorArgs(match_labels=labels(app, instance, part))


def spread_over(
    key: str,
    app: App,
    instance: str | None = None,
    part: Part | None = None,
    *,
    strictly: bool = False,
) -> k8s.core.v1.TopologySpreadConstraintArgs:
    """As many pods in each zone or on each node (`key`) as in any other, give or take one."""
    return k8s.core.v1.TopologySpreadConstraintArgs(
        max_skew=1,
        topology_key=key,
        when_unsatisfiable="DoNotSchedule" if strictly else "ScheduleAnyway",
        label_selector=selector(app, instance, part),
    )


ZONE, NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def disruption_budget(
    app: App, instance: str | None = None, part: Part | None = None
) -> k8s.policy.v1.PodDisruptionBudgetSpecArgs:
    """One pod at a time. A pod that is not ready stands in nobody's way."""
    return k8s.policy.v1.PodDisruptionBudgetSpecArgs(
        max_unavailable=1,
        unhealthy_pod_eviction_policy="AlwaysAllow",
        selector=selector(app, instance, part),
    )


def empty_dir(name: str, size: str, medium: str | None = None) -> k8s.core.v1.VolumeArgs:
    source = k8s.core.v1.EmptyDirVolumeSourceArgs(size_limit=size, medium=medium)
    return k8s.core.v1.VolumeArgs(name=name, empty_dir=source)


def mount(name: str, path: str, *, read_only: bool | None = None) -> k8s.core.v1.VolumeMountArgs:
    return k8s.core.v1.VolumeMountArgs(name=name, mount_path=path, read_only=read_only)


def variables_from(
    identity: Identity, *, optional: bool = False
) -> list[k8s.core.v1.EnvFromSourceArgs] | None:
    """What an identity gives as environment variables; `optional`: its Secrets need not exist."""
    return [
        k8s.core.v1.EnvFromSourceArgs(
            secret_ref=k8s.core.v1.SecretEnvSourceArgs(name=name, optional=optional or None)
        )
        for name in identity.environment_from
    ] or None


def memory(gib: float) -> str:
    """A quantity in whole MiB."""
    return f"{round(gib * 1024)}Mi"


def cpu(vcpu: float) -> str:
    return f"{round(vcpu * 1000)}m"


def digest(text: str) -> str:
    """For an annotation of the pod: a change of what it reads at start must restart it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
