"""Combinations that cannot work, refused with the reason before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .settings import EngineSettings


def refusals(settings: EngineSettings, model_config: Mapping[str, Any] | None) -> list[str]:
    """Why these settings cannot serve this model: key, value, what is allowed; empty when they can."""
    return [*_parallel(settings, model_config or {})]


def _parallel(settings: EngineSettings, config: Mapping[str, Any]) -> Iterator[str]:
    ranks, heads = settings.options.tensor_parallel, config.get("num_attention_heads")
    if heads and heads % ranks:
        allowed = ", ".join(str(n) for n in range(1, min(heads, 16) + 1) if heads % n == 0)
        yield f"engine.tensor_parallel {ranks} does not divide {heads} attention heads: {allowed}"
