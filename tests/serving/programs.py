"""What serving registers for each stack, recorded once a run of the tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from freehold.cluster.existing_target import ExistingPlatform
from freehold.config.inheritance import merge
from freehold.config.loader import load_tree, parse_stack
from freehold.config.target import ExistingCluster
from freehold.planning.plan import Plan, make_plan
from freehold.serving.compose import deploy

from .eks_like import EksLike
from .recorded import Program, record

ROOT = Path(__file__).parents[2]
STACKS = ("small", "medium", "large", "onprem")


@cache
def plan_of(stack: str) -> Plan:
    return changed_plan(stack, {})


def changed_plan(stack: str, change: dict[str, Any]) -> Plan:
    """The plan of a stack file with `change` laid on top."""
    tree, _ = load_tree(stack, ROOT)
    tree = {key: value for key, value in tree.items() if key != "extends"}
    return make_plan(stack, parse_stack(merge(tree, change), "test"))


@cache
def program_of(stack: str, preview: bool = False) -> Program:
    return run(plan_of(stack), preview=preview)


def run(plan: Plan, *, preview: bool = False, terminates_tls: bool = True) -> Program:
    def program() -> Any:
        if isinstance(plan.target, ExistingCluster):
            return deploy(
                plan, ExistingPlatform(plan.stack, plan.target, plan.gateway, None).target
            )
        return deploy(plan, EksLike(terminates_tls=terminates_tls))

    return record(program, preview=preview)


def pod(program: Program, kind: str, name: str) -> dict[str, Any]:
    """The pod's spec of a Deployment or StatefulSet."""
    return program.one(kind, name)["spec"]["template"]["spec"]


def container(program: Program, kind: str, name: str, which: str) -> dict[str, Any]:
    spec = pod(program, kind, name)
    (found,) = (
        item
        for item in [*spec.get("initContainers", []), *spec["containers"]]
        if item["name"] == which
    )
    return found


# Every pod program of a stack with all tiers.
PODS = [
    ("Deployment", "chat"),
    ("Deployment", "embed"),
    ("Deployment", "rerank"),
    ("Deployment", "gateway"),
    ("Deployment", "picker-a"),
    ("Deployment", "picker-b"),
    ("StatefulSet", "redis"),
]
