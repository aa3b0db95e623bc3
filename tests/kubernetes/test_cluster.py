"""Every stack on a real API server, scheduler and controller manager, with nodes that are said to be."""

from __future__ import annotations

import json
import time
from collections import Counter

import httpx
import pytest
import yaml

from .api import Object, apply, apps, evict, get, is_ready, items, merge, path_of
from .binaries import keda_definitions
from .nodes import nodes_of, without_one
from .stage import Stage, plan_of, staged

STACKS = ("small", "medium", "large", "onprem")
_GROUP = "freehold/node-group"

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="session", autouse=True)
def definitions(client: httpx.Client) -> None:
    """KEDA's, of the release's version."""
    for file in keda_definitions():
        for item in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if item and item["kind"] == "CustomResourceDefinition":
                assert apply(client, item).is_success


def all_scheduled(stage: Stage) -> bool:
    found = stage.pods()
    return bool(found) and all(pod["spec"].get("nodeName") for pod in found)


def all_ready(stage: Stage) -> bool:
    return len(stage.pods()) == wanted(stage) and all(is_ready(pod) for pod in stage.pods())


def wanted(stage: Stage) -> int:
    return sum(
        item["spec"].get("replicas", 1)
        for item in stage.objects
        if item["kind"] in ("Deployment", "StatefulSet")
        and item["metadata"]["namespace"].startswith(f"{stage.plan.stack}-")
    )


@pytest.mark.parametrize("stack", STACKS)
def test_the_whole_life_of_a_stack(client: httpx.Client, stack: str) -> None:
    """Applied, scheduled on the right nodes, rolled, drained, held to its level, and gone."""
    with staged(client, stack) as stage:
        assert not stage.refused
        stage.wait(lambda: all_ready(stage), "not all pods are ready", 120)
        on_the_right_nodes(stage)
        a_roll_keeps_to_its_gpus_and_its_budget(stage)
        a_drain_respects_the_budget(stage)
        admission_refuses_a_privileged_pod(stage)
    leftovers = {
        item["metadata"]["name"]
        for item in items(client, "/api/v1/namespaces")
        if item["metadata"]["name"].startswith(f"{stack}-")
    }
    assert not leftovers


def on_the_right_nodes(stage: Stage) -> None:
    groups = {
        item["metadata"]["name"]: item["metadata"]["labels"][_GROUP]
        for item in items(stage.client, "/api/v1/nodes")
    }
    for pod in stage.pods():
        asked = pod["spec"].get("nodeSelector", {}).get(_GROUP)
        assert asked is None or groups[pod["spec"]["nodeName"]] == asked


def a_roll_keeps_to_its_gpus_and_its_budget(stage: Stage) -> None:
    """Each moment is looked at: GPUs asked for by pods that hold a node, and workers that are ready."""
    client = stage.client
    (chat,) = (
        item
        for item in stage.objects
        if item["kind"] == "Deployment" and item["metadata"]["name"] == "chat"
    )
    before = {pod["metadata"]["uid"] for pod in chat_pods(stage)}
    most, rolling = gpus_of(client), chat["spec"]["strategy"]["rollingUpdate"]
    merge(
        client,
        path_of(chat),
        {"spec": {"template": {"metadata": {"annotations": {"test/rolled": "1"}}}}},
    )
    deadline = time.monotonic() + 120
    while True:
        found = chat_pods(stage)
        assert gpus_asked(client) <= most
        ready = sum(map(is_ready, found))
        assert ready >= chat["spec"]["replicas"] - rolling["maxUnavailable"]
        if ready == chat["spec"]["replicas"] and not before & {p["metadata"]["uid"] for p in found}:
            return
        assert time.monotonic() < deadline, stage.told()
        time.sleep(0.1)


def chat_pods(stage: Stage) -> list[Object]:
    key = "app.kubernetes.io/instance"
    return [pod for pod in stage.pods() if pod["metadata"]["labels"].get(key) == "chat"]


def gpus_of(client: httpx.Client) -> int:
    return sum(
        int(node["status"]["allocatable"].get("nvidia.com/gpu", 0))
        for node in items(client, "/api/v1/nodes")
    )


def gpus_asked(client: httpx.Client) -> int:
    return sum(
        int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
        for pod in items(client, "/api/v1/pods")
        if pod["spec"].get("nodeName")
        for container in pod["spec"]["containers"]
    )


def a_drain_respects_the_budget(stage: Stage) -> None:
    """Of the two gateways the second may not go before the first has a successor."""
    gateways = [
        pod
        for pod, app in zip(stage.pods(), apps(stage.pods()), strict=True)
        if app == "gateway" and is_ready(pod)
    ]
    assert len(gateways) >= 2
    (budget,) = (
        item
        for item in stage.objects
        if item["kind"] == "PodDisruptionBudget" and item["metadata"]["name"] == "gateway"
    )

    def may_go() -> bool:
        status = get(stage.client, path_of(budget)).get("status", {})
        return status.get("disruptionsAllowed") == 1

    stage.wait(may_go, "the budget allows no eviction")
    first, second = (evict(stage.client, pod) for pod in gateways[:2])
    assert first.status_code == 201
    assert second.status_code == 429, second.text
    stage.wait(lambda: all_ready(stage), "no successor came")


def admission_refuses_a_privileged_pod(stage: Stage) -> None:
    for namespace in (n for n in stage.namespaces if n.startswith(f"{stage.plan.stack}-")):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "intruder"},
            "spec": {
                "containers": [{"name": "a", "image": "a", "securityContext": {"privileged": True}}]
            },
        }
        answer = stage.client.post(f"/api/v1/namespaces/{namespace}/pods", json=pod)
        assert answer.status_code == 403, (namespace, answer.text)
        assert "violates PodSecurity" in json.loads(answer.text)["message"]


@pytest.mark.parametrize("stack", STACKS)
def test_one_node_fewer_leaves_exactly_its_pods_pending(client: httpx.Client, stack: str) -> None:
    """Of the first GPU group; every other pod runs."""
    plan = plan_of(stack)
    group = plan.node_groups[0]
    pools = {pool.name: pool for pool in plan.pools}
    expected: Counter[str] = Counter()
    for name in group.pools:
        placement = pools[name].placement
        assert placement
        left = (group.nodes - 1) * placement.replicas_per_node
        expected[name] = max(0, pools[name].replicas - left)
    with staged(client, stack, without_one(nodes_of(plan), group, plan)) as stage:

        def pending() -> Counter[str]:
            waiting = [pod for pod in stage.pods() if not pod["spec"].get("nodeName")]
            return Counter(apps(waiting, "app.kubernetes.io/instance"))

        def settled() -> bool:
            there = [pod for pod in stage.pods() if pod["spec"].get("nodeName")]
            return len(stage.pods()) == wanted(stage) and all(map(is_ready, there))

        if stack == "onprem":  # its one machine held everything
            stage.wait(lambda: len(stage.pods()) == wanted(stage), "pods are missing")
            assert not [pod for pod in stage.pods() if pod["spec"].get("nodeName")]
        else:
            stage.wait(lambda: settled() and pending() == +expected, f"not {expected}", 120)
