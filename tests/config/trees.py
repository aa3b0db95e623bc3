"""Plain trees of stacks for tests: the smallest ones, and a way to change them."""

from __future__ import annotations

import copy
from typing import Any

LOCAL: dict[str, Any] = {
    "target": {"kind": "local"},
    "pools": [{"name": "chat", "role": "generate", "model": "tiny-chat"}],
}
EKS: dict[str, Any] = {
    "target": {
        "kind": "eks",
        "region": "us-east-1",
        "zones": ["us-east-1a", "us-east-1b"],
        "endpoint": {"runner": "in-vpc"},
    },
    "pools": [
        {
            "name": "chat",
            "role": "generate",
            "model": "llama-3.1-8b",
            "context": 8192,
            "demand": {"concurrency": 4, "input_tokens": 2000, "output_tokens": 200},
        }
    ],
}
EXISTING: dict[str, Any] = {
    **EKS,
    "target": {
        "kind": "existing",
        "context": "lab",
        "storage_class": "local-path",
        "nodes": [
            {"name": "big", "gpu": "L40S", "gpus": 4, "count": 1, "vcpu": 64, "ram_gib": 512},
            {"name": "single", "gpu": "L40S", "gpus": 1, "count": 2, "vcpu": 16, "ram_gib": 128},
        ],
    },
}


def changed(tree: dict[str, Any], **paths: Any) -> dict[str, Any]:
    """A copy with values set by path, `__` between steps: pools__0__context=100."""
    tree = copy.deepcopy(tree)
    for path, value in paths.items():
        *steps, last = path.split("__")
        node: Any = tree
        for step in steps:
            node = node[int(step)] if step.isdigit() else node.setdefault(step, {})
        node[int(last) if last.isdigit() else last] = value
    return tree
