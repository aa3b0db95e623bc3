"""Nodes with GPUs: one node group for each place that the plan puts pools in.

Raw launch template and node group, because only these take a Capacity Block and only these can be
seen by a test.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_aws as aws

from freehold.catalog.instances import Instance, load_instances
from freehold.config.capacity import Capacity, CapacityBlock, OnDemand, Reservation, Spot
from freehold.config.stack import Hours
from freehold.planning.cost import GPU_ROOT_GIB
from freehold.planning.plan import NodeGroup, Plan

from .cluster import Cluster
from .launch_template import launch_template
from .network import Network
from .node_config import FAST_PULL_VCPU, node_config
from .tags import tags
from .targets import NODE_GROUP_LABEL, Toleration

# The taint that NVIDIA's charts tolerate of themselves.
GPU_TAINT = Toleration("nvidia.com/gpu", "present")
DEVICE_CONFIG_LABEL = "nvidia.com/device-plugin.config"
# Stands in a rendering of a stack whose Capacity Block is still to be bought (refusals.py).
NOT_BOUGHT = "<capacity-block-id>"
# More types make Spot likelier to be had; each must be large enough for the plan.
_SPOT_TYPES = 4


@dataclass(frozen=True)
class GpuNodes:
    """A node group as AWS takes it, said in plain values: what the reviewed snapshots hold."""

    name: str
    zones: tuple[str, ...]
    instance_types: tuple[str, ...]
    capacity_type: Literal["ON_DEMAND", "SPOT", "CAPACITY_BLOCK"]
    min_size: int
    desired_size: int
    max_size: int
    update_strategy: Literal["DEFAULT", "MINIMAL"]
    labels: Mapping[str, str]
    node_config: Mapping[str, Any]
    fast_disk: bool
    template: Mapping[str, Any]
    """Arguments of the launch template that say how the instances are bought."""
    autoscaled: bool


def gpu_nodes(group: NodeGroup, plan: Plan) -> GpuNodes:
    """What a planned node group becomes."""
    instance = load_instances()[group.instance_type]
    fast = instance.vcpu >= FAST_PULL_VCPU
    scarce = _is_scarce(group.capacity, instance)
    return GpuNodes(
        name=group.name,
        zones=group.zones,
        instance_types=_instance_types(group.capacity, instance, group.zones[0][:-1]),
        capacity_type=_CAPACITY_TYPES[type(group.capacity)],
        min_size=group.nodes if scarce else 1,
        desired_size=group.nodes,
        # Room for one more round of replicas, and for replacing a node before it goes.
        max_size=group.nodes if scarce else 2 * group.nodes,
        update_strategy="MINIMAL" if scarce else "DEFAULT",
        labels={
            NODE_GROUP_LABEL: group.name,
            "nvidia.com/gpu.present": "true",
            DEVICE_CONFIG_LABEL: device_config(len(group.pools)),
        },
        node_config=node_config(local_storage=instance.nvme_gb > 0, fast_image_pull=fast),
        fast_disk=fast,
        template=_bought(group),
        autoscaled=not scarce,
    )


def device_config(pools: int) -> str:
    """Name of the device plugin's configuration on a node whose GPU so many pools share."""
    return "exclusive" if pools == 1 else f"shared-{pools}"


_CAPACITY_TYPES: dict[type[Capacity], Literal["ON_DEMAND", "SPOT", "CAPACITY_BLOCK"]] = {
    OnDemand: "ON_DEMAND",
    Reservation: "ON_DEMAND",
    Spot: "SPOT",
    CapacityBlock: "CAPACITY_BLOCK",
}


def _is_scarce(capacity: Capacity, instance: Instance) -> bool:
    """No spare machine can be had: a node must go before the next one comes, and none is added."""
    return isinstance(capacity, Reservation | CapacityBlock) or instance.family.startswith("p")


def _instance_types(capacity: Capacity, instance: Instance, region: str) -> tuple[str, ...]:
    """On Spot, larger ones with the same GPUs too: whatever is there is taken."""
    if not isinstance(capacity, Spot):
        return (instance.name,)
    others = [
        other
        for other in load_instances().values()
        if (other.gpu, other.gpus) == (instance.gpu, instance.gpus)
        and other.name != instance.name
        and other.vcpu >= instance.vcpu
        and other.ram_gib >= instance.ram_gib
        and other.nvme_gb >= instance.nvme_gb
        and "spot" in other.capacity
        and region in other.regions
    ]
    larger = sorted(others, key=lambda other: (other.vcpu, other.ram_gib))
    return tuple(one.name for one in [instance, *larger][:_SPOT_TYPES])


def _bought(group: NodeGroup) -> dict[str, Any]:
    """Where the launch template must say how its instances are bought.

    A Capacity Block takes no placement group: its machines are near one another already, and the
    two may conflict.
    """
    capacity = group.capacity
    if isinstance(capacity, Reservation):
        return {"capacity_reservation_specification": _target(capacity.id)}
    if not isinstance(capacity, CapacityBlock):
        return {}
    return {
        "instance_type": group.instance_type,
        "instance_market_options": {"market_type": "capacity-block"},
        "capacity_reservation_specification": _target(capacity.id or NOT_BOUGHT),
    }


def _target(reservation: str) -> dict[str, Any]:
    return {"capacity_reservation_target": {"capacity_reservation_id": reservation}}


class GpuNodeGroup(pulumi.ComponentResource):
    """Launch template and node group of one `GpuNodes`, and the hours in which it runs."""

    node_group: aws.eks.NodeGroup

    def __init__(
        self,
        nodes: GpuNodes,
        cluster: Cluster,
        network: Network,
        role: aws.iam.Role,
        ready: Sequence[pulumi.Resource],
        hours: Hours | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:GpuNodeGroup", f"gpu-{nodes.name}", {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        template = launch_template(
            f"gpu-{nodes.name}",
            cluster.name,
            root_gib=GPU_ROOT_GIB,
            config=dict(nodes.node_config),
            fast_disk=nodes.fast_disk,
            opts=child,
            **nodes.template,
        )
        # EKS wants the type in one of the two places; a Capacity Block's is in the template.
        in_template = "instance_type" in nodes.template
        self.node_group = aws.eks.NodeGroup(
            f"gpu-{nodes.name}",
            cluster_name=cluster.cluster_name,
            node_role_arn=role.arn,
            subnet_ids=network.subnets_of(nodes.zones),
            version=cluster.version,
            ami_type="AL2023_x86_64_NVIDIA",
            capacity_type=nodes.capacity_type,
            instance_types=None if in_template else [*nodes.instance_types],
            launch_template={
                "id": template.id,
                "version": template.latest_version.apply(str),
            },
            scaling_config={
                "min_size": nodes.min_size,
                "desired_size": nodes.desired_size,
                "max_size": nodes.max_size,
            },
            update_config={"max_unavailable": 1, "update_strategy": nodes.update_strategy},
            node_repair_config={"enabled": True},
            labels=dict(nodes.labels),
            taints=[
                {"key": GPU_TAINT.key, "value": GPU_TAINT.value, "effect": "NO_SCHEDULE"},
            ],
            tags=tags(cluster.name, f"{cluster.name}-gpu-{nodes.name}"),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*ready],
                # The autoscaler's and the schedule's word, not the program's.
                ignore_changes=["scalingConfig.desiredSize"],
            ),
        )
        if hours:
            self._schedule(nodes, hours, child)
        self.register_outputs({})

    def _schedule(self, nodes: GpuNodes, hours: Hours, opts: pulumi.ResourceOptions) -> None:
        """To zero at `stop`, back at `start`; in between nobody can start a GPU."""
        group = self.node_group.resources.apply(_autoscaling_group)
        sizes = {
            "start": (nodes.min_size, nodes.desired_size, nodes.max_size),
            "stop": (0, 0, 0),
        }
        for edge, (least, desired, most) in sizes.items():
            hour, minute = getattr(hours, edge).split(":")
            aws.autoscaling.Schedule(
                f"gpu-{nodes.name}-{edge}",
                scheduled_action_name=f"freehold-{edge}",
                autoscaling_group_name=group,
                recurrence=f"{int(minute)} {int(hour)} * * {_cron_days(hours)}",
                time_zone=hours.timezone,
                min_size=least,
                desired_capacity=desired,
                max_size=most,
                opts=opts,
            )


def _autoscaling_group(made: Any) -> str:
    """The one group that EKS keeps for a node group."""
    return made[0].autoscaling_groups[0].name


def _cron_days(hours: Hours) -> str:
    week = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    return ",".join(str(week.index(day)) for day in hours.days)


def ends_soonest(plan: Plan) -> datetime.datetime | None:
    """When the first of the plan's Capacity Blocks ends; None when nothing is dated."""
    blocks = [g.capacity for g in plan.node_groups if isinstance(g.capacity, CapacityBlock)]
    return min((block.ends for block in blocks if block.ends), default=None)
