"""Node groups and launch templates, exactly: reviewed by hand, committed, compared.

Regenerate, then read the difference: PYTHONPATH=tests .venv/bin/python tests/cluster/test_gpu_nodes.py
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from program.programs import BLOCK, gpu_resources, plan_of, record_cluster, recorded, tree

from freehold.config import FreeholdError
from freehold.recording import Recording

GOLDEN = Path(__file__).parent / "golden"
RESERVATION = {"kind": "reservation", "id": "cr-0123456789abcdef0", "zone": "us-east-2a"}
HOURS = {
    "days": ["mon", "fri"],
    "start": "08:00",
    "stop": "18:30",
    "timezone": "Europe/Berlin",
}
CASES: dict[str, dict[str, Any]] = {
    "g6-on-demand": tree("g6.2xlarge"),
    "g6e-on-demand": tree("g6e.2xlarge"),
    "g6e-small-size": tree("g6e.xlarge"),
    "g6e-spot": tree("g6e.xlarge", {"kind": "spot"}),
    "g6e-reservation": tree("g6e.2xlarge", RESERVATION),
    "g6e-hours": tree("g6e.2xlarge", hours=HOURS),
    "g7e-on-demand": tree("g7e.2xlarge"),
    "p5e-capacity-block": tree("p5e.48xlarge", BLOCK),
    "p5e-reservation": tree("p5e.48xlarge", RESERVATION),
    "p5en-on-demand": tree("p5en.48xlarge"),
    "p5en-capacity-block": tree("p5en.48xlarge", BLOCK),
}
PRESETS = ("small", "medium", "large")


@cache
def recording_of(case: str) -> Recording:
    return recorded(case) if case in PRESETS else record_cluster(plan_of(CASES[case]))


def as_reviewed(case: str) -> list[dict[str, Any]]:
    """What the snapshots hold: inputs, with the user data in clear."""
    found = []
    for resource in gpu_resources(recording_of(case)):
        inputs = json.loads(json.dumps(resource.inputs))
        if "userData" in inputs:
            inputs["userData"] = base64.b64decode(inputs["userData"]).decode().splitlines()
        found.append({"type": resource.type, "name": resource.name, "inputs": inputs})
    return in_order(found)


def in_order(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By node group: programs register in the order in which their outputs become known."""
    return sorted(resources, key=lambda resource: (resource["name"], resource["type"]))


@pytest.mark.parametrize("case", [*CASES, *PRESETS])
def test_node_groups_are_the_reviewed_ones(case: str) -> None:
    assert as_reviewed(case) == in_order(json.loads((GOLDEN / f"{case}.json").read_text()))


def node_group(case: str) -> dict[str, Any]:
    return next(r["inputs"] for r in as_reviewed(case) if r["type"].endswith("NodeGroup"))


def template(case: str) -> dict[str, Any]:
    return next(r["inputs"] for r in as_reviewed(case) if r["type"].endswith("LaunchTemplate"))


# What the review holds on to, whatever is regenerated.
@pytest.mark.parametrize("case", [*CASES, *PRESETS])
def test_every_gpu_node_is_hardened(case: str) -> None:
    made = template(case)
    assert made["metadataOptions"]["httpTokens"] == "required"
    assert made["metadataOptions"]["httpPutResponseHopLimit"] == 1
    disk = made["blockDeviceMappings"][0]["ebs"]
    assert disk["encrypted"] == "true" and disk["volumeSize"] >= 200
    assert "imageId" not in made and "keyName" not in made
    tagged = {spec["resourceType"] for spec in made["tagSpecifications"]}
    assert tagged == {"instance", "volume", "network-interface"}
    group = node_group(case)
    assert group["amiType"] == "AL2023_x86_64_NVIDIA" and "remoteAccess" not in group
    assert group["taints"] == [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
    ]
    assert group["nodeRepairConfig"] == {"enabled": True}
    assert ("instanceTypes" in group) != ("instanceType" in made)


@pytest.mark.parametrize("case", ["p5e-capacity-block", "p5en-capacity-block"])
def test_a_capacity_block_is_bought_as_one(case: str) -> None:
    group, made = node_group(case), template(case)
    assert group["capacityType"] == "CAPACITY_BLOCK"
    assert group["subnetIds"] == ["<private-us-east-2b.id>"]
    assert made["instanceMarketOptions"] == {"marketType": "capacity-block"}
    target = made["capacityReservationSpecification"]["capacityReservationTarget"]
    assert target == {"capacityReservationId": BLOCK["id"]}
    assert "placement" not in made
    sizes = group["scalingConfig"]
    assert sizes["minSize"] == sizes["desiredSize"] == sizes["maxSize"]
    assert group["updateConfig"]["updateStrategy"] == "MINIMAL"


def test_spot_takes_what_there_is() -> None:
    """As the node group's own capacity type: only such a group does EKS drain at the notice."""
    group = node_group("g6e-spot")
    assert group["capacityType"] == "SPOT"
    types = group["instanceTypes"]
    assert types[0] == "g6e.xlarge" and len(types) > 1


def test_hours_scale_to_zero_and_back() -> None:
    made = recording_of("g6e-hours").of_type("aws:autoscaling/schedule:Schedule")
    by_name = {schedule.name: schedule.inputs for schedule in made}
    assert by_name["gpu-chat-stop"]["recurrence"] == "30 18 * * 1,5"
    assert by_name["gpu-chat-stop"]["maxSize"] == 0
    assert by_name["gpu-chat-start"]["desiredCapacity"] == 1
    assert by_name["gpu-chat-start"]["timeZone"] == "Europe/Berlin"


def test_a_capacity_block_s_end_is_announced() -> None:
    alarm = recording_of("p5e-capacity-block").one("aws:scheduler/schedule:Schedule")
    assert alarm.inputs["scheduleExpression"] == "at(2099-02-28T11:30:00)"


def test_p5e_on_demand_is_refused_and_p5en_named() -> None:
    with pytest.raises(FreeholdError, match="p5en"):
        plan_of(tree("p5e.48xlarge"))


def write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for case in [*CASES, *PRESETS]:
        (GOLDEN / f"{case}.json").write_text(
            json.dumps(as_reviewed(case), indent=2, sort_keys=True) + "\n"
        )


if __name__ == "__main__":
    write()
