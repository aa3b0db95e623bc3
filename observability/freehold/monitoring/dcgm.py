"""What the DCGM exporter is asked for: values of its chart, wherever that is installed."""

from __future__ import annotations

from typing import Any

from .metrics import DCGM_COUNTERS


def counters_csv() -> str:
    """The exporter's list of fields; it exports these and no others."""
    return "".join(f"{name}, {kind}, {text}\n" for name, kind, text in DCGM_COUNTERS)


def chart_values() -> dict[str, Any]:
    """To be merged into the chart's other values."""
    return {"customMetrics": counters_csv()}
