"""What all nodes share, and the nodes without GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws

from freehold.config.target import EksTarget
from freehold.planning.cost import SYSTEM_ROOT_GIB

from . import iam
from .cluster import Cluster
from .launch_template import launch_template
from .network import Network
from .node_config import node_config
from .tags import tags
from .targets import NODE_GROUP_LABEL

_POLICIES = "arn:aws:iam::aws:policy"
SYSTEM = "system"


def node_role(
    stack: str, opts: pulumi.ResourceOptions
) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
    """Join the cluster, pull images, be reached by Session Manager instead of SSH; nothing else.
    What the CNI does it does with an identity of its own."""
    return iam.service_role(
        "node",
        "ec2.amazonaws.com",
        [
            f"{_POLICIES}/AmazonEKSWorkerNodePolicy",
            f"{_POLICIES}/AmazonEC2ContainerRegistryPullOnly",
            f"{_POLICIES}/AmazonSSMManagedInstanceCore",
        ],
        opts,
        tags=tags(stack),
    )


class SystemNodeGroup(pulumi.ComponentResource):
    """Nodes for gateway, Prometheus, Redis and controllers, over all zones."""

    node_group: aws.eks.NodeGroup

    def __init__(
        self,
        cluster: Cluster,
        target: EksTarget,
        network: Network,
        role: aws.iam.Role,
        ready: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:SystemNodeGroup", "system-nodes", {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        template = launch_template(
            SYSTEM,
            cluster.name,
            root_gib=SYSTEM_ROOT_GIB,
            config=node_config(local_storage=False, fast_image_pull=False),
            fast_disk=False,
            opts=child,
        )
        size = target.system.nodes
        self.node_group = aws.eks.NodeGroup(
            SYSTEM,
            cluster_name=cluster.cluster_name,
            node_role_arn=role.arn,
            subnet_ids=network.subnets_of(target.zones),
            version=cluster.version,
            ami_type="AL2023_x86_64_STANDARD",
            capacity_type="ON_DEMAND",
            instance_types=[target.system.instance_type],
            launch_template={
                "id": template.id,
                "version": template.latest_version.apply(str),
            },
            # One more, so that a node is replaced before it goes.
            scaling_config={"min_size": size, "desired_size": size, "max_size": size + 1},
            update_config={"max_unavailable": 1},
            node_repair_config={"enabled": True},
            labels={NODE_GROUP_LABEL: SYSTEM},
            tags=tags(cluster.name, f"{cluster.name}-{SYSTEM}"),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[*ready], ignore_changes=["scalingConfig.desiredSize"]
            ),
        )
        self.register_outputs({})
