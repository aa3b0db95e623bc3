"""Nodes that are only said to be there, and a kubelet for all of them."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator

import httpx

from freehold.catalog.instances import load_instances
from freehold.catalog.prices import load_system_nodes
from freehold.cluster.gpu_node_group import DEVICE_CONFIG_LABEL, GPU_TAINT, gpu_nodes
from freehold.cluster.nodes import SYSTEM
from freehold.cluster.targets import NODE_GROUP_LABEL
from freehold.config.target import EksTarget, ExistingCluster
from freehold.planning.host import HostNeed, allocatable
from freehold.planning.plan import NodeGroup, Plan

from .api import Object, apply, items, merge, path_of

_GROUP, _ZONE = NODE_GROUP_LABEL, "topology.kubernetes.io/zone"
_GPU = "nvidia.com/gpu"
# Device plugin and DCGM exporter: the plan counts them to what a node keeps (planning/host.py), here they
# are pods and ask for it (cluster/gpu_software.py).
_SOFTWARE = HostNeed(0.12, 0.19)
OURS = {"freehold.test/pretended": "true"}
"""On every node that is none, and on all else of the tests that lies in no namespace."""
# Ready within seconds, unlike an engine; the order of things is the same.
_START_SECONDS, _STOP_SECONDS = 1.0, 1.0
# Kubernetes takes a node for dead after 40 to 50 s without a word.
_ALIVE_SECONDS = 5.0


def nodes_of(plan: Plan) -> list[Object]:
    """Every node of a stack: those of its groups with their GPUs, and those without."""
    if isinstance(plan.target, ExistingCluster):
        return [*_owned(plan, plan.target)]
    assert isinstance(plan.target, EksTarget)
    found = []
    for group in plan.node_groups:
        instance = load_instances()[group.instance_type]
        for place in range(group.nodes):
            zone = group.zones[place % len(group.zones)]
            labels = {**gpu_nodes(group, plan).labels, _ZONE: zone}
            gpus = instance.gpus * _slices(labels[DEVICE_CONFIG_LABEL])
            has = allocatable(instance) + _SOFTWARE
            node = _node(f"{group.name}-{place}", labels, has, gpus)
            taint = {"key": GPU_TAINT.key, "value": GPU_TAINT.value, "effect": GPU_TAINT.effect}
            node["spec"] = {"taints": [taint]}
            found.append(node)
    system = load_system_nodes()[plan.target.system.instance_type]
    for place in range(plan.target.system.nodes):
        # Less what the cluster's own pods ask for (CoreDNS, controllers; planning/host.py's daemons).
        has = HostNeed(system.vcpu * 0.9 - 0.5, system.ram_gib * 0.85 - 0.5)
        zone = plan.target.zones[place % len(plan.target.zones)]
        found.append(_node(f"system-{place}", {_GROUP: SYSTEM, _ZONE: zone}, has, 0))
    return found


def _slices(device_config: str) -> int:
    """How often the device plugin offers a GPU (cluster/node_software.py)."""
    return int(device_config.removeprefix("shared-")) if "shared" in device_config else 1


def _owned(plan: Plan, target: ExistingCluster) -> Iterator[Object]:
    """The machines of the stack file; GPUs as often as pools share them."""
    slices = {group.instance_type: len(group.pools) for group in plan.node_groups}
    for machine in target.nodes:
        for place in range(machine.count):
            has = HostNeed(machine.vcpu - 1, machine.ram_gib * 0.95, machine.nvme_gb)
            gpus = machine.gpus * slices.get(machine.name, 1)
            yield _node(f"{machine.name}-{place}", {_GROUP: machine.name}, has, gpus)


def _node(name: str, labels: dict[str, str], has: HostNeed, gpus: int) -> Object:
    resources = {
        "cpu": f"{int(has.vcpu * 1000)}m",
        "memory": f"{int(has.ram_gib * 1024)}Mi",
        "ephemeral-storage": f"{int(max(has.nvme_gib, 100) * 1024)}Mi",
        "pods": "110",
    }
    if gpus:
        resources[_GPU] = str(gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels, **OURS}},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Said"}],
        },
    }


def add(client: httpx.Client, node: Object) -> None:
    """Create it, then tell its state: the API takes the two apart."""
    body = {key: value for key, value in node.items() if key != "status"}
    client.post("/api/v1/nodes", json=body).raise_for_status()
    merge(client, f"{path_of(node)}/status", {"status": node["status"]})
    # A node is created with a taint until its state is known.
    kept = node.get("spec", {}).get("taints", [])
    merge(client, path_of(node), {"spec": {"taints": kept}})


@contextlib.contextmanager
def kubelet(client: httpx.Client, nodes: list[Object]) -> Iterator[None]:
    """Says that these nodes live, starts pods that are on one, and ends those that are told to stop."""
    names = {node["metadata"]["name"] for node in nodes}
    stopped = threading.Event()
    thread = threading.Thread(target=_run, args=(client, names, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=10)
        for name in names:
            client.delete(path_of(_lease(name)))


def _run(client: httpx.Client, names: set[str], stopped: threading.Event) -> None:
    since: dict[str, float] = {}
    said = -_ALIVE_SECONDS
    while not stopped.wait(0.2):
        with contextlib.suppress(httpx.HTTPError):
            if time.monotonic() - said > _ALIVE_SECONDS:
                said = time.monotonic()
                for name in names:
                    _say_alive(client, name)
            for pod in items(client, "/api/v1/pods"):
                if pod["spec"].get("nodeName") in names:
                    _play(client, pod, since)


def _say_alive(client: httpx.Client, name: str) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    spec = {
        "holderIdentity": name,
        "leaseDurationSeconds": 40,
        "renewTime": now.replace("+00:00", "Z"),
    }
    apply(client, {**_lease(name), "spec": spec})


def _lease(name: str) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
    }


def _play(client: httpx.Client, pod: Object, since: dict[str, float]) -> None:
    pod = {**pod, "apiVersion": "v1", "kind": "Pod"}
    going = "deletionTimestamp" in pod["metadata"]
    key = f"{pod['metadata']['uid']}{going}"
    waited = time.monotonic() - since.setdefault(key, time.monotonic())
    if going and waited > _STOP_SECONDS:
        client.delete(path_of(pod), params={"gracePeriodSeconds": "0"})
    elif not going and waited > _START_SECONDS and pod["status"].get("phase") == "Pending":
        finished = pod["spec"].get("restartPolicy") in ("Never", "OnFailure")
        status = {
            "phase": "Succeeded" if finished else "Running",
            "conditions": [
                {"type": kind, "status": "True"}
                for kind in ("Initialized", "ContainersReady", "Ready", "PodScheduled")
            ],
        }
        merge(client, f"{path_of(pod)}/status", {"status": status})


def without_one(nodes: list[Object], group: NodeGroup, plan: Plan) -> list[Object]:
    """One node of a group fewer."""
    label = group.instance_type if isinstance(plan.target, ExistingCluster) else group.name
    gone = next(node for node in nodes if node["metadata"]["labels"][_GROUP] == label)
    return [node for node in nodes if node is not gone]
