"""`freehold predict --calibrate`: what a load test says of the latency model on this cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError, load_stack
from freehold.load.calibrate import MeasuredLoad, measured_loads
from freehold.local.simulated import replica_of
from freehold.planning.plan import PoolPlan, make_plan
from freehold.planning.speed import Deployment, Load
from freehold.planning.speed.adjust import Factors, Level, as_json, errors, fit

from .checkout import checkout_root


def calibrated(report: Mapping[str, Any]) -> str:
    """Fit, show the error before and after, and return the calibration file's text."""
    loads = measured_loads(report)
    pool, deployment = _measured_pool(report)
    levels = [_level(load, pool.replicas) for load in loads]
    factors = fit(deployment, levels)
    before, after = errors(deployment, levels, Factors()), errors(deployment, levels, factors)
    _show(loads, levels, before, after, factors)
    held = {
        "made_by": "freehold predict --calibrate",
        "stack": report["label"],
        "pool": pool.name,
        "deployment": f"{deployment.model.name} {deployment.weights} on {deployment.gpu.name}",
        "factors": as_json(factors),
        "median_error_before": _medians(before),
        "median_error_after": _medians(after),
    }
    return json.dumps(held, indent=2) + "\n"


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
