"""GPUs: memory, bandwidth, arithmetic and how they talk to each other, one row each in `gpus.yaml`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from .reading import read_data

Interconnect = Literal["none", "pcie4", "pcie5", "nvlink3", "nvlink4", "nvlink5"]


@dataclass(frozen=True)
class AllReduce:
    """One measured all-reduce: `ranks` GPUs of one machine, `bytes` on each, `ms` to finish."""

    ranks: int
    bytes: int
    ms: float


@dataclass(frozen=True)
class Gpu:
    """One GPU model. `tflops` is dense (no sparsity), by precision: bf16, fp8, int8, fp4."""

    name: str
    memory_mib: int
    """What the driver reports, not what the box says."""
    bandwidth_gbps: float
    """GB/s of its own memory, by specification."""
    tflops: Mapping[str, float] = field(hash=False)
    sm: int
    """Compute capability, 89 for 8.9."""
    interconnect: Interconnect
    link_gbps: float
    """GB/s in one direction between two GPUs of a machine, by specification; 0 for none."""
    all_reduce: tuple[AllReduce, ...]
    """Measured rows, by ranks and then bytes; empty where nobody measured."""
    all_reduce_from: str | None
    """Where these rows are another GPU's with the same links, its name."""
    systems: tuple[str, ...]
    """What measured files call a machine of these."""
    source: str
    date: str
    unverified: tuple[str, ...] = ()

    def flops(self, precision: str) -> float:
        """FLOP/s of dense matrix products; a precision that it lacks runs as bf16."""
        return self.tflops.get(precision, self.tflops["bf16"]) * 1e12

    def all_reduce_seconds(self, ranks: int, size: float) -> float:
        """Seconds to sum `size` bytes (on each GPU) over `ranks` GPUs of one machine.

        Between measured sizes, and between measured rank counts, the logarithm is interpolated;
        beyond the largest size the time grows with it; below the smallest it stays. Without any
        measured rows: a ring over the specified links.
        """
        if ranks <= 1 or size <= 0:
            return 0.0
        curves = self._curves()
        if not curves:
            return 10e-6 + 2 * (ranks - 1) / ranks * size / (self.link_gbps * 1e9 or math.inf)
        known = sorted(curves)
        if ranks in curves:
            return _along(curves[ranks], size) / 1e3
        if ranks < known[0] or ranks > known[-1]:
            edge = known[0] if ranks < known[0] else known[-1]
            return _along(curves[edge], size) * max(1.0, ranks / edge) / 1e3
        low = max(n for n in known if n < ranks)
        high = min(n for n in known if n > ranks)
        share = (math.log(ranks) - math.log(low)) / (math.log(high) - math.log(low))
        at_low, at_high = _along(curves[low], size), _along(curves[high], size)
        return at_low ** (1 - share) * at_high**share / 1e3

    def _curves(self) -> dict[int, tuple[tuple[int, float], ...]]:
        return _curves_of(self.all_reduce)


@cache
def _curves_of(rows: tuple[AllReduce, ...]) -> dict[int, tuple[tuple[int, float], ...]]:
    """Ranks -> (bytes, ms) by size, made to never fall as the size grows (noise removed)."""
    curves: dict[int, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: (row.ranks, row.bytes)):
        curve = curves.setdefault(row.ranks, [])
        curve.append((row.bytes, max(row.ms, curve[-1][1] if curve else 0.0)))
    return {ranks: tuple(curve) for ranks, curve in curves.items()}


def _along(curve: tuple[tuple[int, float], ...], size: float) -> float:
    if size <= curve[0][0]:
        return curve[0][1]
    if size >= curve[-1][0]:
        return curve[-1][1] * size / curve[-1][0]
    for (low, at_low), (high, at_high) in pairwise(curve):
        if size <= high:
            share = (math.log(size) - math.log(low)) / (math.log(high) - math.log(low))
            return at_low ** (1 - share) * at_high**share
    raise AssertionError("unreachable: the sizes are sorted")


@cache
def load_gpus() -> Mapping[str, Gpu]:
    """Every GPU of the catalog by name."""
    rows = read_data("gpus.yaml")
    return {name: _gpu(name, row, rows) for name, row in rows.items()}


def find_gpu(name: str) -> Gpu | None:
    """The GPU of this name, or of a measured file's name for its system (`h100_sxm`); else None."""
    gpus = load_gpus()
    if name in gpus:
        return gpus[name]
    return next((gpu for gpu in gpus.values() if name in gpu.systems), None)


def _gpu(name: str, row: dict[str, Any], rows: dict[str, Any]) -> Gpu:
    fields = dict(row)
    stand_in = fields.pop("all_reduce_from", None)
    table = rows[stand_in]["all_reduce"] if stand_in else fields.pop("all_reduce", {})
    return Gpu(
        **fields
        | {
            "name": name,
            "all_reduce": tuple(
                AllReduce(ranks, size, ms)
                for ranks, sizes in table.items()
                for size, ms in sizes.items()
            ),
            "all_reduce_from": stand_in,
            "systems": tuple(fields["systems"]),
            "unverified": tuple(fields.get("unverified", ())),
            "date": str(fields["date"]),
        }
    )
