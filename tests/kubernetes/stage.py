"""A stack on the control plane: its nodes, everything that it renders, and away again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from freehold.config.loader import load_stack
from freehold.config.target import ExistingCluster
from freehold.planning.plan import Plan, make_plan
from freehold.recording.program import record_program

from .api import Object, apply, in_order, items, path_of, pods
from .nodes import add, kubelet, nodes_of

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """One stack, applied."""

    client: httpx.Client
    plan: Plan
    objects: list[Object]
    refused: list[str] = field(default_factory=list)

    @property
    def namespaces(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.objects if item["kind"] == "Namespace"]

    def pods(self) -> list[Object]:
        """Of the serving namespaces."""
        serving = [name for name in self.namespaces if name.startswith(f"{self.plan.stack}-")]
        return [pod for name in serving for pod in pods(self.client, name)]

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.told()}"
            time.sleep(0.3)

    def told(self) -> list[tuple[str, Any, Any]]:
        return [
            (
                p["metadata"]["name"],
                p["spec"].get("nodeName"),
                p.get("status", {}).get("conditions"),
            )
            for p in self.pods()
        ]


def plan_of(stack: str) -> Plan:
    return make_plan(stack, load_stack(stack, ROOT))


def rendered(stack: str) -> list[Object]:
    """As `freehold render` writes them. A CustomResource needs its definition, a pod its class."""
    recording = record_program(ROOT, stack)
    return [
        copy.deepcopy(dict(resource.inputs))
        for resource in recording.resources
        if resource.type.startswith("kubernetes:")
        and {"apiVersion", "kind"} <= resource.inputs.keys()
    ]


@contextmanager
def staged(client: httpx.Client, stack: str, nodes: list[Object] | None = None) -> Iterator[Stage]:
    """Applied and, at the end, deleted; with `nodes` instead of the stack's own."""
    plan = plan_of(stack)
    stage = Stage(client, plan, in_order(rendered(stack)))
    shown = nodes_of(plan) if nodes is None else nodes
    for node in shown:
        add(client, node)
    extra = _needed(plan)
    with kubelet(client):
        for item in [*extra, *stage.objects]:
            answer = apply(client, item)
            if not answer.is_success:
                name = f"{item['kind']} {item['metadata']['name']}"
                stage.refused.append(f"{name}: {answer.json().get('message')}")
        try:
            yield stage
        finally:
            for item in reversed([*extra, *stage.objects]):
                client.delete(path_of(item), params={"propagationPolicy": "Background"})
            wait_gone(client, stage.namespaces)
            for node in shown:
                client.delete(path_of(node))


def _needed(plan: Plan) -> list[Object]:
    """What a cluster that exists has already."""
    if isinstance(plan.target, ExistingCluster) and plan.target.runtime_class:
        name = plan.target.runtime_class
        return [
            {
                "apiVersion": "node.k8s.io/v1",
                "kind": "RuntimeClass",
                "metadata": {"name": name},
                "handler": name,
            }
        ]
    return []


def wait_gone(client: httpx.Client, namespaces: list[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        there = {item["metadata"]["name"] for item in items(client, "/api/v1/namespaces")}
        if not there & set(namespaces):
            return
        assert time.monotonic() < deadline, f"still there: {there & set(namespaces)}"
        time.sleep(0.5)
