"""Does a zone have the machine? Only AWS knows: asked in the preview, before anything is created."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pulumi
import pulumi_aws as aws

from freehold.planning.plan import NodeGroup, Plan


def refuse_zones(plan: Plan, provider: aws.Provider) -> None:
    """Ends the program where none of a node group's zones has its instance type."""
    for group in plan.node_groups:
        found = aws.ec2.get_instance_type_offerings_output(
            location_type="availability-zone",
            filters=[{"name": "instance-type", "values": [group.instance_type]}],
            opts=pulumi.InvokeOutputOptions(provider=provider),
        )
        found.locations.apply(partial(refuse_unless_sold, group))


def refuse_unless_sold(group: NodeGroup, zones: Sequence[str]) -> None:
    """`zones`: where AWS has the type. Raises RunError, which Pulumi prints as the program's one error."""
    if not set(group.zones) & set(zones):
        there = ", ".join(sorted(zones)) or "no zone of the region"
        raise pulumi.RunError(
            f"node group {group.name}: {group.instance_type} is not sold in {', '.join(group.zones)}; "
            f"AWS has it in {there}: name such a zone in target.zones"
        )
