"""A zone without the machine is refused in the preview, with the zones that have it."""

from __future__ import annotations

import pulumi
import pytest
from program.programs import plan_of, tree

from freehold.cluster.offerings import refuse_unless_sold


def test_a_type_that_none_of_the_zones_has_is_refused() -> None:
    (group,) = plan_of(tree("g6e.2xlarge")).node_groups
    refuse_unless_sold(group, [group.zones[0], "us-east-2z"])
    with pytest.raises(
        pulumi.RunError, match=r"not sold in .* AWS has it in us-east-2y, us-east-2z"
    ):
        refuse_unless_sold(group, ["us-east-2z", "us-east-2y"])
    with pytest.raises(pulumi.RunError, match="AWS has it in no zone of the region"):
        refuse_unless_sold(group, [])
