"""vLLM's router, in front of a pool whose prompts are read and answers written by different workers."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Target
from freehold.gateway.model import ROUTER_HEALTH
from freehold.gateway.prefill_decode import PrefillDecode, router_arguments
from freehold.planning.plan import PoolPlan
from freehold.planning.plan_types import Part

from .drain import drain_of
from .names import ENGINE_PORT, ROUTER_METRICS_PORT, ROUTER_PORT, Names, labels
from .pods import (
    NODE,
    ZONE,
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

_REPLICAS = 2  # so that one may go; each sees the load that it sends itself


class PrefillDecodeRouter(pulumi.ComponentResource):
    """Creates a ServiceAccount, a Deployment of two, a headless Service and a PodDisruptionBudget."""

    def __init__(
        self,
        pool: PoolPlan,
        names: Names,
        target: Target,
        image: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
        ready: Sequence[pulumi.Resource] = (),
    ) -> None:
        name = f"{pool.name}-router"
        super().__init__("freehold:serving:PrefillDecodeRouter", name, None, opts)
        options = target.options(self, depends_on=ready)
        about = metadata(name, names.gateway, "router", pool.name)
        account = k8s.core.v1.ServiceAccount(
            name, metadata=about, automount_service_account_token=False, opts=options
        )
        k8s.apps.v1.Deployment(
            name,
            metadata=about,
            spec=_deployment(pool, names, target, image),
            # It is ready when the engines are, which wait for their images and weights.
            opts=pulumi.ResourceOptions.merge(
                target.options(self, depends_on=[*ready, account]),
                pulumi.ResourceOptions(
                    custom_timeouts=pulumi.CustomTimeouts(create="90m", update="90m")
                ),
            ),
        )
        k8s.core.v1.Service(name, metadata=about, spec=_service(pool), opts=options)
        k8s.policy.v1.PodDisruptionBudget(
            name, metadata=about, spec=disruption_budget("router", pool.name), opts=options
        )
        self.register_outputs({})


def _service(pool: PoolPlan) -> k8s.core.v1.ServiceSpecArgs:
    return k8s.core.v1.ServiceSpecArgs(
        cluster_ip="None",
        selector=labels("router", pool.name),
        ports=[k8s.core.v1.ServicePortArgs(name="http", port=ROUTER_PORT)],
    )


def router_of(pool: PoolPlan, names: Names) -> PrefillDecode:
    """Workers by the names that their StatefulSets give them."""
    assert pool.disaggregation is not None

    def hosts(part: Part) -> tuple[tuple[str, int], ...]:
        assert pool.disaggregation is not None
        replicas = pool.disaggregation.replicas[part]
        return tuple((host, ENGINE_PORT) for host in names.worker_hosts(pool.name, part, replicas))

    return PrefillDecode(
        address=("0.0.0.0", ROUTER_PORT),
        metrics=("0.0.0.0", ROUTER_METRICS_PORT),
        prefill=hosts("prefill"),
        decode=hosts("decode"),
    )


def _deployment(
    pool: PoolPlan, names: Names, target: Target, image: pulumi.Input[str]
) -> k8s.apps.v1.DeploymentSpecArgs:
    drain = drain_of(pool)
    health = k8s.core.v1.HTTPGetActionArgs(path=ROUTER_HEALTH, port=ROUTER_PORT)
    container = k8s.core.v1.ContainerArgs(
        name="router",
        image=image,
        command=["vllm-router"],
        args=router_arguments(router_of(pool, names)),
        ports=[
            k8s.core.v1.ContainerPortArgs(name="http", container_port=ROUTER_PORT),
            k8s.core.v1.ContainerPortArgs(name="metrics", container_port=ROUTER_METRICS_PORT),
        ],
        # No liveness probe: it does not listen before its first workers do, and restarting it would
        # not make them come.
        readiness_probe=k8s.core.v1.ProbeArgs(http_get=health, period_seconds=2),
        # On SIGTERM it ends what it has begun (seen with 0.1.17), after nobody sends it anything new.
        lifecycle=k8s.core.v1.LifecycleArgs(
            pre_stop=k8s.core.v1.LifecycleHandlerArgs(
                sleep=k8s.core.v1.SleepActionArgs(seconds=drain.pre_stop)
            )
        ),
        # 14,000 small requests a second a core, about 1 ms of it for a streamed answer (measured
        # 2026-11-23).
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": "250m", "memory": "256Mi"}, limits={"memory": "1Gi"}
        ),
        security_context=container_security(),
        volume_mounts=[mount("tmp", "/tmp")],
    )
    spec = pod_spec(
        target,
        target.system,
        service_account=f"{pool.name}-router",
        grace_seconds=drain.grace,
        containers=[container],
        volumes=[empty_dir("tmp", "100Mi")],
        spread=[
            spread_over(ZONE, "router", pool.name),
            spread_over(NODE, "router", pool.name),
        ],
    )
    return k8s.apps.v1.DeploymentSpecArgs(
        replicas=_REPLICAS,
        revision_history_limit=3,
        strategy=k8s.apps.v1.DeploymentStrategyArgs(
            type="RollingUpdate",
            rolling_update=k8s.apps.v1.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
        ),
        selector=selector("router", pool.name),
        template=pod_template(spec, "router", pool.name),
    )
