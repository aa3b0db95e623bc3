"""From a plan for EKS to a cluster that workloads can land on."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from freehold.config.target import EksTarget as EksSettings
from freehold.planning.plan import Plan

from .addons import BEFORE_NODES, ON_NODES, Addons
from .capacity_alarm import CapacityAlarm
from .cluster import Cluster
from .eks_target import ClusterDefaults, EksTarget, network_load_balancer
from .gpu_node_group import GpuNodeGroup, ends_soonest, gpu_nodes
from .model_import import ModelImport
from .model_store import ModelStore, stored_models
from .network import network_of
from .node_software import NodeSoftware
from .nodes import SystemNodeGroup, node_role
from .registry import Registry


@dataclass(frozen=True)
class Platform:
    """A cluster, its target, and what a user wants to know of them."""

    target: EksTarget
    kubeconfig: pulumi.Output[str]


class EksPlatform(pulumi.ComponentResource):
    """Parent of everything that a stack has in AWS."""

    platform: Platform

    def __init__(
        self,
        plan: Plan,
        settings: EksSettings,
        *,
        engine_tag: str,
        hub_token: pulumi.Output[str] | None,
        gpu_metrics: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`gpu_metrics`: the DCGM exporter's list of fields, which monitoring decides."""
        super().__init__("freehold:cluster:EksPlatform", plan.stack, {}, opts)
        # The stack file's region, whatever the shell's default is.
        provider = aws.Provider(
            "aws", region=settings.region, opts=pulumi.ResourceOptions(parent=self)
        )
        child = pulumi.ResourceOptions(parent=self, providers=[provider])
        release, stack = plan.release, plan.stack
        groups = [gpu_nodes(group, plan) for group in plan.node_groups]
        network = network_of(stack, settings, child)
        cluster = Cluster(stack, settings, release.kubernetes, network, child)
        early = Addons("addons-before-nodes", BEFORE_NODES, release.eks_addons, cluster, [], child)
        role, role_ready = node_role(stack, pulumi.ResourceOptions(parent=self, provider=provider))
        nodes_after = [*early.ready, *role_ready, *network.ready]
        system = SystemNodeGroup(cluster, settings, network, role, nodes_after, child)
        on_system = [system.node_group]
        late = Addons("addons-on-nodes", ON_NODES, release.eks_addons, cluster, on_system, child)
        software = NodeSoftware(
            cluster,
            settings.region,
            network,
            groups,
            release,
            gpu_metrics,
            [*on_system, *late.ready],
            child,
        )
        gpus = [
            GpuNodeGroup(group, cluster, network, role, nodes_after, plan.hours, child)
            for group in groups
        ]
        defaults = ClusterDefaults(cluster, on_system, child)
        registry = Registry(stack, child)
        store, imported = None, ()
        if models := stored_models(plan.pools):
            store = ModelStore(stack, child)
            imported = ModelImport(
                cluster,
                settings.region,
                store,
                models,
                registry.prefix.apply(lambda prefix: f"{prefix}/engine:{engine_tag}"),
                hub_token,
                [*on_system, *late.ready],
                child,
            ).ready
        if ends := ends_soonest(plan):
            CapacityAlarm(stack, ends, settings.alarm_email, child)
        target = EksTarget(
            cluster=cluster,
            aws=provider,
            region=settings.region,
            store=store,
            image_registry=registry.prefix,
            front_door=network_load_balancer(plan.gateway),
            imported=imported,
            ready=(
                *late.ready,
                *software.ready,
                *defaults.ready,
                *(group.node_group for group in gpus),
            ),
        )
        self.platform = Platform(target=target, kubeconfig=cluster.kubeconfig)
        self.register_outputs({"cluster": stack})
