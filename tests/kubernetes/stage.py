"""A stack on the control plane: its nodes, everything that it renders, and away again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import httpx
import yaml
from checkouts import changed_checkout

from freehold.config.loader import load_stack
from freehold.config.target import ExistingCluster
from freehold.planning.plan import Plan, make_plan

from .api import Object, apply, in_order, is_cluster_wide, items, path_of, pods
from .guest import marked
from .nodes import add, kubelet, nodes_of

ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """One stack, applied."""

    client: httpx.Client
    plan: Plan
    objects: list[Object]
    nodes: list[Object]
    refused: list[str] = field(default_factory=list)

    @property
    def namespaces(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.of_kind("Namespace")]

    @property
    def serving(self) -> list[str]:
        """Namespaces of what serves: all of the stack's own but for monitoring."""
        own = f"{self.plan.stack}-"
        return [n for n in self.namespaces if n.startswith(own) and not n.endswith("-monitoring")]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] in kinds]

    def pods(self) -> list[Object]:
        return [pod for name in self.serving for pod in pods(self.client, name)]

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


# Stacks of the tests' own: what is said otherwise in the stack file of another.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    # A cache on each node, keys from a store: what no stack file of the repository asks for.
    "medium-by-node": (
        "medium",
        {
            "cache": {"placement": "node"},
            "gateway": {
                "keys": [
                    {"tenant": "default"},
                    {"tenant": "acme", "external": {"store": "vault", "key": "llm/acme"}},
                ]
            },
        },
    ),
}


@cache
def checkout_of(stack: str) -> Path:
    """The repository's own, but for a variant."""
    if stack not in VARIANTS:
        return ROOT
    base, change = VARIANTS[stack]
    folder = changed_checkout(Path(mkdtemp(prefix="freehold-")), base, change)
    (folder / f"Pulumi.{base}.yaml").rename(folder / f"Pulumi.{stack}.yaml")
    return folder


@cache
def plan_of(stack: str) -> Plan:
    return make_plan(stack, load_stack(stack, checkout_of(stack)))


@cache
def rendered(stack: str) -> list[Object]:
    """The files that `freehold render` writes."""
    program = Path(sys.executable).with_name("freehold")
    with TemporaryDirectory() as out:
        command = [program, "render", stack, "--out", out]
        subprocess.run(command, cwd=checkout_of(stack), check=True, stdout=subprocess.DEVNULL)
        files = sorted(Path(out, "kubernetes").glob("*.yaml"))
        return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]


@contextmanager
def staged(client: httpx.Client, stack: str, nodes: list[Object] | None = None) -> Iterator[Stage]:
    """Applied and, at the end, deleted; with `nodes` instead of the stack's own."""
    plan = plan_of(stack)
    shown = nodes_of(plan) if nodes is None else nodes
    stage = Stage(client, plan, in_order(rendered(stack)), shown)
    there = [item for item in stage.objects if not _may_come(client, item)]
    assert not there, f"already on this cluster: {[path_of(item) for item in there]}"
    brought = [item for item in _needed(plan) if _may_come(client, item)]
    with kubelet(client, shown):
        try:
            for node in shown:
                add(client, node)
            for item in [*brought, *stage.objects]:
                answer = apply(client, marked(item) if is_cluster_wide(item) else item)
                if not answer.is_success:
                    stage.refused.append(
                        f"{item['kind']} {item['metadata']['name']}: {answer.text}"
                    )
            yield stage
        finally:
            for item in reversed([*brought, *stage.objects]):
                client.delete(path_of(item), params={"propagationPolicy": "Background"})
            wait_gone(client, stage.namespaces)
            for node in shown:
                client.delete(path_of(node))


def _may_come(client: httpx.Client, item: Object) -> bool:
    """What is there already and lies in no namespace is somebody's."""
    return not is_cluster_wide(item) or client.get(path_of(item)).status_code == 404


def _needed(plan: Plan) -> list[Object]:
    """What a cluster that exists has already, if it is one."""
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
