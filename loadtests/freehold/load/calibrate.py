"""The measured rows of reports, for `freehold predict --calibrate`: one row a level of load.

The latency model's constants are fitted by freehold.planning.speed; this says what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from freehold.config import FreeholdError


@dataclass(frozen=True)
class MeasuredLoad:
    """One level of a load test: the load that was there, and the medians at it."""

    concurrency: float
    input_tokens: float
    output_tokens: float
    prefix_hit_rate: float
    median_ttft_ms: float
    median_tpot_ms: float
    requests: int


def measured_loads(report: Mapping[str, Any]) -> list[MeasuredLoad]:
    """A report's stages; refuses a report that is no measurement."""
    if not report.get("valid", False):
        reasons = "; ".join(report.get("invalid_reasons", [])) or "it is no load test's report"
        raise FreeholdError(f"this report cannot calibrate anything, it is not valid: {reasons}")
    found = list(_loads(report))
    if not found:
        raise FreeholdError("this report has no stage with completed requests")
    return found


def _loads(report: Mapping[str, Any]) -> Iterator[MeasuredLoad]:
    hit_rate = report["server"].get("cache_hit_share")
    if hit_rate is None:
        hit_rate = report["generator"].get("reusable_share") or 0.0
    for stage in report["stages"]:
        completed = stage["completed"]
        if not completed or not stage["total_output_tokens"]:
            continue
        yield MeasuredLoad(
            concurrency=stage["mean_concurrency"],
            input_tokens=stage["total_input_tokens"] / completed,
            output_tokens=stage["total_output_tokens"] / completed,
            prefix_hit_rate=float(hit_rate),
            median_ttft_ms=stage["median_ttft_ms"],
            median_tpot_ms=stage["median_tpot_ms"],
            requests=completed,
        )
