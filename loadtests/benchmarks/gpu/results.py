"""From the engine's log and the benchmark's result file to a row that calibration reads, and a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = (
    *("system", "vllm_version", "model", "precision", "isl", "osl", "concurrency"),
    *("tp", "pp", "attention_dp", "moe_ep", "ttft_ms", "tpot_ms", "measured"),
)


@dataclass(frozen=True)
class EngineMemory:
    """What the engine says of one GPU in its log; None where it said nothing."""

    weights_gib: float | None
    kv_tokens: int | None
    kv_gib: float | None


def memory_from_log(log: str) -> EngineMemory:
    """The engine's own words at start; of several ranks, the fullest."""
    weights = re.findall(r"Model loading took ([\d.]+) GiB", log)
    tokens = re.findall(r"GPU KV cache size: ([\d,]+) tokens", log)
    cache = re.findall(r"Available KV cache memory: ([\d.]+) GiB", log)
    return EngineMemory(
        weights_gib=max(map(float, weights), default=None),
        kv_tokens=min((int(found.replace(",", "")) for found in tokens), default=None),
        kv_gib=min(map(float, cache), default=None),
    )


def row_of(
    asked: Mapping[str, Any], result: Mapping[str, Any], vllm_version: str, day: str
) -> dict[str, str]:
    """One CSV row. Raises ValueError when the run was not clean: its medians would not count."""
    if result.get("failed") or not result.get("completed"):
        raise ValueError(
            f"{result.get('failed', 0)} requests failed, {result.get('completed', 0)} completed"
        )
    values = {
        "system": asked["system"],
        "vllm_version": vllm_version,
        "model": asked["model"],
        "precision": asked["precision"],
        "isl": asked["input_tokens"],
        "osl": asked["output_tokens"],
        "concurrency": result["max_concurrency"],
        "tp": asked["tensor_parallel"],
        "pp": asked["pipeline_parallel"],
        "attention_dp": 1,
        "moe_ep": 1,
        "ttft_ms": result["median_ttft_ms"],
        "tpot_ms": result["median_tpot_ms"],
        "measured": day,
    }
    return {column: str(values[column]) for column in COLUMNS}


def append(path: Path, row: Mapping[str, str]) -> None:
    """Add the row to a CSV, which is made with its header where there is none."""
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def against(what: str, planned: float, measured: float | None, unit: str) -> str:
    """One line of the table: planned, measured, and how far apart."""
    if measured is None:
        return f"{what:<22} {planned:>10.1f} {'not said':>10} {unit}"
    return (
        f"{what:<22} {planned:>10.1f} {measured:>10.1f} {unit:<7} {planned / measured - 1:>+7.1%}"
    )
