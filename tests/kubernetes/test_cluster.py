"""Every stack on a real API server, scheduler and controller manager, with nodes that are said to be."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest
from program.programs import STACKS as EVERY_STACK

from .api import Object, apply, apps, evict, get, is_ready, merge, path_of, pods
from .nodes import nodes_of, without_one
from .stage import VARIANTS, Stage, plan_of, staged

STACKS = tuple(stack for stack in EVERY_STACK if stack not in ("local", "bedrock"))
GROUPS = [(stack, group.name) for stack in STACKS for group in plan_of(stack).node_groups]
_GROUP, _GPU = "freehold/node-group", "nvidia.com/gpu"
_APP, _INSTANCE = "app.kubernetes.io/name", "app.kubernetes.io/instance"

pytestmark = pytest.mark.timeout(600)


def all_ready(stage: Stage) -> bool:
    found = stage.pods()
    return len(found) == wanted(stage) and all(map(is_ready, found))


def wanted(stage: Stage) -> int:
    return sum(
        item["spec"].get("replicas", 1)
        if item["kind"] != "DaemonSet"
        else len(nodes_for(stage, item))
        for item in stage.of_kind("Deployment", "StatefulSet", "DaemonSet")
        if item["metadata"]["namespace"] in stage.serving
    )


def nodes_for(stage: Stage, daemons: Object) -> list[Object]:
    chosen = daemons["spec"]["template"]["spec"]["nodeSelector"].items()
    return [node for node in stage.nodes if chosen <= node["metadata"]["labels"].items()]


@pytest.mark.parametrize("stack", [*STACKS, *VARIANTS])
def test_the_whole_life_of_a_stack(client: httpx.Client, stack: str) -> None:
    """Applied, scheduled on the right nodes, rolled, drained, held to its level, and gone."""
    with staged(client, stack) as stage:
        assert not stage.refused
        stage.wait(lambda: all_ready(stage), "not all pods are ready", 120)
        on_the_right_nodes(stage)
        if stack != "onprem":  # where the GPU Operator does it
            every_gpu_node_has_what_drives_it(stage)
        for pool in stage.plan.pools:
            a_roll_keeps_to_its_gpus_and_its_budget(stage, pool.name)
        no_budget_lets_two_go_at_once(stage)
        if stack != "onprem":  # its one machine has nowhere to drain to
            a_drained_node_costs_one_gateway_at_most(stage)
        admission_refuses_what_is_privileged(stage)
    for item in stage.objects:
        assert client.get(path_of(item)).status_code == 404, path_of(item)


def on_the_right_nodes(stage: Stage) -> None:
    groups = {node["metadata"]["name"]: node["metadata"]["labels"][_GROUP] for node in stage.nodes}
    for pod in stage.pods():
        asked = pod["spec"].get("nodeSelector", {}).get(_GROUP)
        assert asked is None or groups[pod["spec"]["nodeName"]] == asked
        if pod["metadata"]["labels"][_APP] == "engine":
            assert asked, "an engine names its machines"


def every_gpu_node_has_what_drives_it(stage: Stage) -> None:
    """One plugin and one exporter each, and no other node any."""
    with_gpus = {
        node["metadata"]["name"] for node in stage.nodes if _GPU in node["status"]["allocatable"]
    }

    def software() -> Counter[str]:
        found = pods(stage.client, "gpu-drivers")
        return Counter(pod["spec"].get("nodeName") for pod in found if is_ready(pod))

    stage.wait(lambda: software() == Counter(dict.fromkeys(with_gpus, 2)), "no GPU software")


def a_roll_keeps_to_its_gpus_and_its_budget(stage: Stage, pool: str) -> None:
    (deployment,) = (
        item for item in stage.of_kind("Deployment") if item["metadata"]["name"] == pool
    )
    _roll(stage, deployment, mark="1")


def _roll(stage: Stage, deployment: Object, mark: str) -> None:
    """Each moment is looked at: GPUs of pods that hold a node, and pods that are ready."""
    spec, chosen = deployment["spec"], deployment["spec"]["selector"]["matchLabels"].items()
    replicas = spec.get("replicas", 1)
    least = replicas - spec["strategy"]["rollingUpdate"]["maxUnavailable"]

    def pods() -> list[Object]:
        return [pod for pod in stage.pods() if chosen <= pod["metadata"]["labels"].items()]

    before = {pod["metadata"]["uid"] for pod in pods()}
    again = {"metadata": {"annotations": {"test/rolled": mark}}}
    merge(stage.client, path_of(deployment), {"spec": {"template": again}})

    def done() -> bool:
        found = pods()
        assert gpus_asked(stage) <= gpus_of(stage)
        ready = sum(map(is_ready, found))
        assert ready >= least, stage.told()
        return ready == replicas and not before & {pod["metadata"]["uid"] for pod in found}

    stage.wait(done, f"{path_of(deployment)} does not roll", 120)


def gpus_of(stage: Stage) -> int:
    return sum(int(node["status"]["allocatable"].get(_GPU, 0)) for node in stage.nodes)


def gpus_asked(stage: Stage) -> int:
    return sum(
        int(container.get("resources", {}).get("limits", {}).get(_GPU, 0))
        for pod in stage.pods()
        if pod["spec"].get("nodeName")
        for container in pod["spec"]["containers"]
    )


def no_budget_lets_two_go_at_once(stage: Stage) -> None:
    """Wherever two stand behind one budget, the second stays until the first has a successor."""
    tried: set[str] = set()
    for budget in stage.of_kind("PodDisruptionBudget"):
        behind = {**budget["spec"]["selector"]["matchLabels"]}.items()
        pods = [pod for pod in stage.pods() if behind <= pod["metadata"]["labels"].items()]
        if len(pods) < 2:
            continue
        stage.wait(lambda: _allowed(stage, budget) == 1, f"no eviction from {path_of(budget)}")  # noqa: B023
        first, second = (evict(stage.client, pod) for pod in pods[:2])
        assert first.status_code == 201, first.text
        assert second.status_code == 429, second.text
        stage.wait(lambda: all_ready(stage), "no successor came")
        tried.add(budget["metadata"]["name"])
    assert tried >= {"gateway", "picker"}


def _allowed(stage: Stage, budget: Object) -> int | None:
    return get(stage.client, path_of(budget)).get("status", {}).get("disruptionsAllowed")


def a_drained_node_costs_one_gateway_at_most(stage: Stage) -> None:
    """As `kubectl drain` does: closed, then asked again and again until all of its pods are away."""
    gateways = [
        p for p, app in zip(stage.pods(), apps(stage.pods()), strict=True) if app == "gateway"
    ]
    name = gateways[0]["spec"]["nodeName"]
    (node,) = (node for node in stage.nodes if node["metadata"]["name"] == name)
    merge(stage.client, path_of(node), {"spec": {"unschedulable": True}})

    def empty() -> bool:
        ready = [pod for pod in stage.pods() if pod["metadata"]["labels"][_APP] == "gateway"]
        assert sum(map(is_ready, ready)) >= len(gateways) - 1
        there = [pod for pod in stage.pods() if pod["spec"].get("nodeName") == name]
        for pod in there:
            assert evict(stage.client, pod).status_code in (201, 404, 429)
        return not there

    stage.wait(empty, "the node does not drain", 120)
    merge(stage.client, path_of(node), {"spec": {"unschedulable": None}})
    stage.wait(lambda: all_ready(stage), "not all came back")


def admission_refuses_what_is_privileged(stage: Stage) -> None:
    """A pod outright; of a Deployment it warns, since its pods are what would be refused. What needs more
    has a namespace of its own."""
    held = [n for n in stage.serving if not n.endswith("-node-cache")]
    assert len(held) >= 2
    for namespace in held:
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
        assert "violates PodSecurity" in answer.json()["message"]
    for deployment in stage.of_kind("Deployment"):
        if deployment["metadata"]["namespace"] in held:
            assert "would violate PodSecurity" in warning_of_privilege(stage, deployment)


def warning_of_privilege(stage: Stage, deployment: Object) -> str:
    """What the API server says to a change that is not made."""
    first = deployment["spec"]["template"]["spec"]["containers"][0]["name"]
    may = {"privileged": True, "allowPrivilegeEscalation": True}
    container = {"name": first, "securityContext": may}
    answer = stage.client.patch(
        path_of(deployment),
        params={"dryRun": "All"},
        headers={"content-type": "application/strategic-merge-patch+json"},
        json={"spec": {"template": {"spec": {"containers": [container]}}}},
    )
    return answer.raise_for_status().headers.get("warning", "")


def test_a_key_of_a_store_changes_without_another_and_without_a_gateway_less(
    client: httpx.Client,
) -> None:
    """The operator that copies it is played: it writes one Secret. Then the page's command restarts."""
    with staged(client, "medium-by-node") as stage:
        assert not stage.refused
        stage.wait(lambda: all_ready(stage), "not all pods are ready", 120)
        kept, own = (
            f"/api/v1/namespaces/medium-by-node-gateway/secrets/gateway-key-{tenant}"
            for tenant in ("acme", "default")
        )
        assert client.get(kept).status_code == 404, "nothing but the operator makes it"
        before = get(client, own)["metadata"]["resourceVersion"]
        (gateway,) = (
            item for item in stage.of_kind("Deployment") if item["metadata"]["name"] == "gateway"
        )
        for key in ("sk-first", "sk-second"):
            apply(client, _secret(kept, key)).raise_for_status()
            _roll(stage, gateway, mark=key)
        assert get(client, own)["metadata"]["resourceVersion"] == before


def _secret(path: str, key: str) -> Object:
    *_, namespace, _, name = path.split("/")
    about = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": {"key": key}}


@pytest.mark.parametrize(("stack", "which"), GROUPS)
def test_one_node_fewer_leaves_exactly_its_pods_pending(
    client: httpx.Client, stack: str, which: str
) -> None:
    """Every other pod runs."""
    plan = plan_of(stack)
    (group,) = (group for group in plan.node_groups if group.name == which)
    pools = {pool.name: pool for pool in plan.pools}
    expected: Counter[str] = Counter()
    for name in group.pools:
        placement = pools[name].placement
        assert placement
        left = (group.nodes - 1) * placement.replicas_per_node
        expected[name] = max(0, pools[name].replicas - left)
    with staged(client, stack, without_one(nodes_of(plan), group, plan)) as stage:
        if not stage.nodes:  # its one machine held everything
            stage.wait(lambda: len(stage.pods()) == wanted(stage), "pods are missing")
            assert not [pod for pod in stage.pods() if pod["spec"].get("nodeName")]
            return

        def settled() -> bool:
            found = stage.pods()
            waiting = [pod for pod in found if not pod["spec"].get("nodeName")]
            running = [pod for pod in found if is_ready(pod)]
            return (
                len(running) + len(waiting) == wanted(stage)
                and Counter(apps(waiting, _INSTANCE)) == +expected
            )

        stage.wait(settled, f"not {expected}", 120)
