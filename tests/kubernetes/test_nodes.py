"""Without a control plane: what each stack renders has room on the nodes that the tests say it has."""

from __future__ import annotations

from typing import Any

import pytest

from .nodes import nodes_of, without_one
from .stage import plan_of, rendered

STACKS = ("small", "medium", "large", "onprem")
_GROUP, _GPU = "freehold/node-group", "nvidia.com/gpu"
_SCALE = {"m": 1e-3, "Mi": 2**20, "Gi": 2**30}


def amount(quantity: str) -> float:
    for suffix, scale in _SCALE.items():
        if quantity.endswith(suffix):
            return float(quantity.removesuffix(suffix)) * scale
    return float(quantity)


def pods(stack: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and spec of every pod of the serving namespaces, largest first."""
    found = [
        (item["metadata"]["name"], item["spec"]["template"]["spec"])
        for item in rendered(stack)
        if item["kind"] in ("Deployment", "StatefulSet")
        and item["metadata"]["namespace"].startswith(f"{stack}-")
        for _ in range(int(item["spec"].get("replicas", 1)))
    ]
    return sorted(found, key=lambda pod: -requests(pod[1])["memory"])


def requests(spec: dict[str, Any]) -> dict[str, float]:
    """Of all that runs at once: containers, and init containers that stay."""
    staying = [c for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]
    total: dict[str, float] = {}
    for container in [*spec["containers"], *staying]:
        for name, quantity in container["resources"]["requests"].items():
            total[name] = total.get(name, 0.0) + amount(quantity)
    return total


def placed(stack: str, nodes: list[dict[str, Any]]) -> list[str]:
    """Pods for which first fit finds no node."""
    free = {
        node["metadata"]["name"]: {k: amount(v) for k, v in node["status"]["allocatable"].items()}
        for node in nodes
    }
    pending = []
    for name, spec in pods(stack):
        need = requests(spec)
        for node in nodes:
            room = free[node["metadata"]["name"]]
            taints = {taint["key"] for taint in node.get("spec", {}).get("taints", [])}
            tolerated = {each["key"] for each in spec.get("tolerations", [])}
            labels = node["metadata"]["labels"]
            fits = all(room.get(key, 0.0) >= value for key, value in need.items())
            chosen = spec.get("nodeSelector", {}).items() <= labels.items()
            if fits and chosen and taints <= tolerated:
                for key, value in need.items():
                    room[key] -= value
                break
        else:
            pending.append(name)
    return pending


@pytest.mark.parametrize("stack", STACKS)
def test_all_pods_have_room(stack: str) -> None:
    assert not placed(stack, nodes_of(plan_of(stack)))


@pytest.mark.parametrize("stack", STACKS)
def test_one_node_fewer_is_one_too_few(stack: str) -> None:
    plan = plan_of(stack)
    group = plan.node_groups[0]
    pending = placed(stack, without_one(nodes_of(plan), group, plan))
    assert set(group.pools) <= set(pending) if group.nodes == 1 else pending


@pytest.mark.parametrize("stack", STACKS)
def test_gpus_are_those_of_the_plan(stack: str) -> None:
    plan = plan_of(stack)
    offered = sum(int(node["status"]["allocatable"].get(_GPU, 0)) for node in nodes_of(plan))
    asked = sum(
        pool.placement.gpus_per_replica * pool.replicas for pool in plan.pools if pool.placement
    )
    assert asked <= offered
