"""`freehold predict --calibrate`: what a load test says of the latency model on this cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError, load_stack
from freehold.config.calibration import Calibration
from freehold.config.loader import stack_file
from freehold.load.calibrate import MeasuredLoad, measured_loads
from freehold.local.simulated import replica_of
from freehold.planning.plan import PoolPlan, make_plan
from freehold.planning.speed import Deployment, Factors, Load
from freehold.planning.speed.adjust import Level, as_json, errors, fit

from .checkout import checkout_root
from .plan_write import Entry, change_pools


@dataclass(frozen=True)
class Calibrated:
    """What was found: for the stack file, and for the one who reads."""

    stack: str
    pool: str
    found: Calibration
    error_before: Mapping[str, float]
    error_after: Mapping[str, float]

    def as_json(self) -> str:
        held = {
            "made_by": "freehold predict --calibrate",
            "stack": self.stack,
            "pool": self.pool,
            **self.found.model_dump(),
            "median_error_before": self.error_before,
            "median_error_after": self.error_after,
        }
        return json.dumps(held, indent=2) + "\n"

    def write(self) -> Path:
        """Into the stack file, where every later plan of the stack reads it."""
        path = stack_file(self.stack, checkout_root())
        values = self.found.model_dump()

        def change(entry: Entry) -> None:
            entry["calibration"] = values

        change_pools(path, {self.pool: change})
        return path


def calibrate(report: Mapping[str, Any]) -> Calibrated:
    """Fit, and show the error before and after. Before: with what the stack file says already."""
    loads = measured_loads(report)
    pool, deployment = _measured_pool(report)
    levels = [_level(load, pool.replicas) for load in loads]
    factors = fit(deployment, levels)
    before = errors(deployment, levels, deployment.factors)
    after = errors(deployment, levels, factors)
    _show(loads, levels, before, after, factors)
    day = str(report["date"])[:8]
    count = "1 level" if len(levels) == 1 else f"{len(levels)} levels"
    found = Calibration(
        deployment=deployment.name,
        measured=f"load test of {day[:4]}-{day[4:6]}-{day[6:]}, {count}",
        **as_json(factors),
    )
    return Calibrated(report["label"], pool.name, found, _medians(before), _medians(after))


def _measured_pool(report: Mapping[str, Any]) -> tuple[PoolPlan, Deployment]:
    stack, model = report.get("label"), report.get("model_id")
    if not stack:
        raise FreeholdError("this report does not say which stack it measured (label)")
    plan = make_plan(stack, load_stack(stack, checkout_root()))
    pool = next((p for p in plan.pools if model in (p.name, *p.aliases, *p.adapters)), None)
    if pool is None:
        raise FreeholdError(f"stack {stack} has no pool {model}, which this report measured")
    deployment = replica_of(pool)
    if deployment is None:
        raise FreeholdError(
            f"stack {stack}, pool {pool.name}: the latency model is of GPUs, and this pool has none"
        )
    return pool, deployment


def _level(measured: MeasuredLoad, replicas: int) -> Level:
    load = Load(
        measured.input_tokens,
        measured.output_tokens,
        max(1.0, measured.concurrency / replicas),
        measured.prefix_hit_rate,
    )
    return Level(load, measured.median_ttft_ms, measured.median_tpot_ms)


Errors = Sequence[tuple[float, float]]


def _show(
    loads: Sequence[MeasuredLoad],
    levels: Sequence[Level],
    before: Errors,
    after: Errors,
    factors: Factors,
) -> None:
    table = Table(
        title="predicted against measured", title_justify="left", box=None, pad_edge=False
    )
    for heading in (
        "in flight",
        "requests",
        "TTFT ms",
        "before",
        "after",
        "TPOT ms",
        "before",
        "after",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for load, level, old, new in zip(loads, levels, before, after, strict=True):
        table.add_row(
            f"{load.concurrency:.1f}",
            str(load.requests),
            f"{level.median_ttft_ms:,.0f}",
            f"{old[0]:+.0%}",
            f"{new[0]:+.0%}",
            f"{level.median_tpot_ms:,.1f}",
            f"{old[1]:+.0%}",
            f"{new[1]:+.0%}",
        )
    console = Console()
    console.print(table)
    console.print("factors: " + ", ".join(f"{k} {v:.3f}" for k, v in as_json(factors).items()))
    if len(levels) == 1:
        console.print("one level of load cannot tell the three apart: measure with --shape step")


def _medians(found: Errors) -> dict[str, float]:
    """Of the errors' sizes, as shares."""
    ttft, tpot = (sorted(abs(each[place]) for each in found) for place in (0, 1))
    return {"ttft": round(ttft[len(ttft) // 2], 4), "tpot": round(tpot[len(tpot) // 2], 4)}
