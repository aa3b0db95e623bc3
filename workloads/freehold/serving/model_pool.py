"""A model pool on Kubernetes: equal engines behind one headless Service."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Identity, Scheduling, Target
from freehold.planning.plan import Plan, PoolPlan
from freehold.planning.plan_types import Part

from .adapters import adapters_container, fetched_adapters
from .autoscaling import pool_scaling, scaled_object
from .drain import Drain, drain_of, on_spot
from .engine_container import (
    check_companions,
    engine_container,
    engine_volumes,
    has_sidecar,
)
from .kv_cache import RedisAddress, cache_sidecar, cache_volumes
from .names import ENGINE_PORT, Names, all_labels, labels
from .pods import (
    NODE,
    ZONE,
    disruption_budget,
    metadata,
    pod_spec,
    pod_template,
    selector,
    spread_over,
)
from .probes import progress_seconds


@dataclass(frozen=True)
class ModelPoolArgs:
    """What decides a pool's objects, or those of one of its parts."""

    plan: Plan
    pool: PoolPlan
    names: Names
    target: Target
    image: pulumi.Input[str]
    """The engine's."""
    redis: RedisAddress | None
    ready: tuple[pulumi.Resource, ...] = ()
    """What pods need to be there: namespaces, Secrets, network policies."""
    part: Part | None = None

    @property
    def name(self) -> str:
        """Of the workload and of its Service."""
        return f"{self.pool.name}-{self.part}" if self.part else self.pool.name

    @property
    def about(self) -> k8s.meta.v1.ObjectMetaArgs:
        return metadata(self.name, self.names.models, "engine", self.pool.name, self.part)

    def of(self, part: Part, replicas: int) -> ModelPoolArgs:
        settings = self.pool.settings_of(part)
        workers = dataclasses.replace(self.pool, settings=settings, replicas=replicas)
        return dataclasses.replace(self, pool=workers, part=part)


class ModelPool(pulumi.ComponentResource):
    """Creates a ServiceAccount, a Deployment, a headless Service, a PodDisruptionBudget (not on Spot)
    and, where the plan lets replicas come and go, KEDA's ScaledObject.

    Of a pool whose prompts are read apart, a StatefulSet, a Service and a budget for each part."""

    def __init__(self, args: ModelPoolArgs, opts: pulumi.ResourceOptions) -> None:
        pool, target, namespace = args.pool, args.target, args.names.models
        super().__init__("freehold:serving:ModelPool", pool.name, None, opts)
        identity = target.model_reader(namespace, pool.name, parent=self)
        options = target.options(self, depends_on=args.ready)
        account = k8s.core.v1.ServiceAccount(
            pool.name,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=pool.name,
                namespace=namespace,
                labels=all_labels("engine", pool.name),
                annotations=dict(identity.annotations) or None,
            ),
            automount_service_account_token=False,
            opts=options,
        )
        if pool.disaggregation:
            for part, replicas in pool.disaggregation.replicas.items():
                self._apart(args.of(part, replicas), identity, account)
        else:
            self._deployed(args, identity, account)
        self.register_outputs({})

    def _deployed(
        self, args: ModelPoolArgs, identity: Identity, account: k8s.core.v1.ServiceAccount
    ) -> None:
        pool, target = args.pool, args.target
        scaling = pool_scaling(args.plan, pool)
        deployment = k8s.apps.v1.Deployment(
            args.name,
            metadata=args.about,
            spec=_deployment(args, identity, scaled=scaling is not None),
            opts=pulumi.ResourceOptions.merge(
                target.options(self, depends_on=[*args.ready, account, *identity.ready]),
                pulumi.ResourceOptions(
                    custom_timeouts=_timeouts(pool),
                    # Where an autoscaler has the word, the program has not.
                    ignore_changes=["spec.replicas"] if scaling else None,
                ),
            ),
        )
        self._reached(args)
        if scaling:
            scaled_object(scaling, args.names, target.options(self, depends_on=[deployment]))

    def _apart(
        self, args: ModelPoolArgs, identity: Identity, account: k8s.core.v1.ServiceAccount
    ) -> None:
        """Workers that keep their names: the router knows each by one, and asks no API for them."""
        k8s.apps.v1.StatefulSet(
            args.name,
            metadata=args.about,
            spec=_stateful_set(args, identity),
            opts=pulumi.ResourceOptions.merge(
                args.target.options(self, depends_on=[*args.ready, account, *identity.ready]),
                pulumi.ResourceOptions(custom_timeouts=_timeouts(args.pool)),
            ),
        )
        self._reached(args)

    def _reached(self, args: ModelPoolArgs) -> None:
        """How others find the workers, and how many of them may be away."""
        pool, options = args.pool, args.target.options(self, depends_on=args.ready)
        k8s.core.v1.Service(
            args.name, metadata=args.about, spec=_service(pool, args.part), opts=options
        )
        if not on_spot(pool):
            # EC2 does not ask it; there it would only keep the second of two pods from its drain.
            k8s.policy.v1.PodDisruptionBudget(
                args.name,
                metadata=args.about,
                spec=disruption_budget("engine", pool.name, args.part),
                opts=options,
            )


def _timeouts(pool: PoolPlan) -> pulumi.CustomTimeouts:
    """How long Pulumi waits for a rollout: its own ten minutes are less than a large model's start."""
    assert pool.sizing is not None
    seconds = progress_seconds(pool.sizing.startup, drain_of(pool).grace) * pool.replicas
    return pulumi.CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s")


def _service(pool: PoolPlan, part: Part | None) -> k8s.core.v1.ServiceSpecArgs:
    """No address of its own: a record for each ready worker, from which the gateway chooses."""
    return k8s.core.v1.ServiceSpecArgs(
        cluster_ip="None",
        selector=labels("engine", pool.name, part),
        ports=[k8s.core.v1.ServicePortArgs(name="http", port=ENGINE_PORT)],
    )


def _deployment(
    args: ModelPoolArgs, identity: Identity, *, scaled: bool
) -> k8s.apps.v1.DeploymentSpecArgs:
    pool = args.pool
    assert pool.sizing is not None
    drain = drain_of(pool)
    return k8s.apps.v1.DeploymentSpecArgs(
        replicas=None if scaled else pool.replicas,
        revision_history_limit=3,
        progress_deadline_seconds=progress_seconds(pool.sizing.startup, drain.grace),
        strategy=_strategy(args.plan, pool),
        selector=selector("engine", pool.name),
        template=pod_template(
            _pod(args, identity, drain),
            "engine",
            pool.name,
            _annotations(args.target.scheduling(pool), has_sidecar(pool, args.plan.cache)),
        ),
    )


def _stateful_set(args: ModelPoolArgs, identity: Identity) -> k8s.apps.v1.StatefulSetSpecArgs:
    """All start at once; a rollout replaces one after the other, and needs no spare GPU."""
    pool, drain = args.pool, drain_of(args.pool)
    return k8s.apps.v1.StatefulSetSpecArgs(
        replicas=pool.replicas,
        service_name=args.name,
        revision_history_limit=3,
        pod_management_policy="Parallel",
        update_strategy=k8s.apps.v1.StatefulSetUpdateStrategyArgs(type="RollingUpdate"),
        selector=selector("engine", pool.name, args.part),
        template=pod_template(
            _pod(args, identity, drain),
            "engine",
            pool.name,
            _annotations(args.target.scheduling(pool), sidecar=False),
            args.part,
        ),
    )


def _strategy(plan: Plan, pool: PoolPlan) -> k8s.apps.v1.DeploymentStrategyArgs:
    """A rollout takes a worker's GPUs from the old one, unless the plan leaves GPUs free."""
    spare = spare_places(plan, pool) > 0
    return k8s.apps.v1.DeploymentStrategyArgs(
        type="RollingUpdate",
        rolling_update=k8s.apps.v1.RollingUpdateDeploymentArgs(
            max_surge=1 if spare else 0, max_unavailable=0 if spare else 1
        ),
    )


def spare_places(plan: Plan, pool: PoolPlan) -> int:
    """Replicas that would fit besides the planned ones. Pools that share a GPU have none: what the
    device plugin offers several times over is one memory."""
    assert pool.placement is not None
    placement = pool.placement
    if _shares_nodes(plan, pool):
        return 0
    return placement.nodes * placement.replicas_per_node - pool.replicas


def _pod(args: ModelPoolArgs, identity: Identity, drain: Drain) -> k8s.core.v1.PodSpecArgs:
    pool, cache, target = args.pool, args.plan.cache, args.target
    scheduling, source = target.scheduling(pool), target.model_source(pool)
    check_companions(pool, source)
    engine = engine_container(pool, cache, source, identity, scheduling, args.image, drain)
    before, volumes = [], engine_volumes(pool, source)
    if names := fetched_adapters(pool, source):
        before.append(adapters_container(names, source, identity, args.image))
    if cache and has_sidecar(pool, cache):
        before.append(cache_sidecar(cache, args.redis, args.image))
        volumes += cache_volumes(cache)
    return pod_spec(
        target,
        scheduling,
        service_account=pool.name,
        grace_seconds=drain.grace,
        init_containers=before,
        containers=[engine],
        volumes=volumes,
        spread=[
            spread_over(ZONE, "engine", pool.name, args.part),
            # Two of one pool on a shared GPU would leave another node's without.
            spread_over(
                NODE, "engine", pool.name, args.part, strictly=_shares_nodes(args.plan, pool)
            ),
        ],
    )


def _shares_nodes(plan: Plan, pool: PoolPlan) -> bool:
    return any(len(group.pools) > 1 and pool.name in group.pools for group in plan.node_groups)


def _annotations(scheduling: Scheduling, sidecar: bool) -> dict[str, str]:
    """The GPU Operator's runtime gives GPUs by CDI alone, where the environment variable that the
    sidecar sets has no say (Container Toolkit 1.20 or newer)."""
    if not sidecar or scheduling.runtime_class is None:
        return {}
    return {"nvidia.cdi.k8s.io/container.cache": "management.nvidia.com/gpu=all"}
