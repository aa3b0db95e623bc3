"""Stacks for tests, as plain trees and as typed ones."""

from __future__ import annotations

from typing import Any

from freehold.config import Stack, parse_stack
from freehold.config.inheritance import merge


def tree(
    model: str = "llama-3.1-8b",
    *,
    context: int = 8192,
    demand: dict[str, Any] | None = None,
    pool: dict[str, Any] | None = None,
    region: str = "us-east-1",
    **stack: Any,
) -> dict[str, Any]:
    """One generating pool on EKS; `pool` and further keywords are laid on top."""
    typical = {"concurrency": 4, "input_tokens": context // 2, "output_tokens": 100}
    chat = {
        "name": "chat",
        "role": "generate",
        "model": model,
        "context": context,
        "demand": demand or typical,
    }
    base = {
        "target": {
            "kind": "eks",
            "region": region,
            "zones": [f"{region}a", f"{region}b"],
            "endpoint": {"runner": "in-vpc"},
        },
        "pools": [merge(chat, pool or {})],
    }
    return merge(base, stack)


def eks_stack(*arguments: Any, **keywords: Any) -> Stack:
    return parse_stack(tree(*arguments, **keywords), "test")
