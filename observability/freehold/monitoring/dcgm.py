"""What the DCGM exporter is asked for."""

from __future__ import annotations

from .metrics import DCGM_COUNTERS


def counters_csv() -> str:
    """The exporter's list of fields; it exports these and no others."""
    return "".join(f"{name}, {kind}, {text}\n" for name, kind, text in DCGM_COUNTERS)
