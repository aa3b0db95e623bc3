"""Whether the queries of scaling triggers can match anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .check import problems
from .rules import recorded


def trigger_problems(triggers: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the queries of KEDA's Prometheus triggers; empty when all is well."""
    queries = [one["metadata"]["query"] for one in triggers if one["type"] == "prometheus"]
    return [problem for query in queries for problem in problems(query, recorded())]
