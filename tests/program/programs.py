"""Recordings of the project's own program, and of stacks that tests make up."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Any

from freehold.cluster.compose import EksPlatform
from freehold.config import parse_stack
from freehold.config.inheritance import merge
from freehold.config.target import EksTarget
from freehold.planning.plan import Plan, make_plan
from freehold.recording import Recording, Resource, record
from freehold.recording.program import record_program

ROOT = Path(__file__).parents[2]
EKS_STACKS = ("small", "medium", "large")
_PRESETS = ("local", "bedrock", *EKS_STACKS, "onprem")
# A fork's own stack files are tested as the presets are.
_OTHERS = {file.suffixes[0][1:] for file in ROOT.glob("Pulumi.*.yaml")} - {*_PRESETS}
STACKS = (*_PRESETS, *sorted(_OTHERS))
BLOCK = {
    "kind": "capacity_block",
    "id": "cr-0123456789abcdef0",
    "zone": "us-east-2b",
    "ends": "2099-03-01T11:30:00Z",
}
_NODE_TYPES = ("aws:eks/nodeGroup:NodeGroup", "aws:ec2/launchTemplate:LaunchTemplate")


@cache
def recorded(stack: str, known: bool = True) -> Recording:
    return record_program(ROOT, stack, known=known)


def tree(instance: str, capacity: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A stack on EKS whose one pool is pinned to an instance type."""
    model = "deepseek-r1" if instance.startswith("p") else "llama-3.1-8b"
    base: dict[str, Any] = {
        "target": {
            "kind": "eks",
            "region": "us-east-2",
            "zones": ["us-east-2a", "us-east-2b", "us-east-2c"],
            "endpoint": {"runner": "in-vpc"},
        },
        "pools": [
            {
                "name": "chat",
                "role": "generate",
                "model": model,
                "context": 8192,
                "demand": {"concurrency": 1, "input_tokens": 1000, "output_tokens": 100},
                "placement": {"instance_type": instance},
            }
        ],
    }
    return merge(base, {**({"capacity": capacity} if capacity else {}), **more})


def plan_of(stack_tree: dict[str, Any], name: str = "test") -> Plan:
    return make_plan(name, parse_stack(stack_tree, "test"))


def record_cluster(plan: Plan, *, known: bool = True) -> Recording:
    """Only what the plan becomes in AWS."""
    settings = plan.target
    assert isinstance(settings, EksTarget)

    def program() -> None:
        EksPlatform(plan, settings, engine_tag="test", hub_token=None, gpu_metrics="")

    return record(program, stack=plan.stack, known=known)


def gpu_resources(recording: Recording) -> list[Resource]:
    return [
        resource
        for resource in recording.resources
        if resource.type in _NODE_TYPES and resource.name.startswith("gpu-")
    ]


def now() -> datetime.datetime:
    return datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
