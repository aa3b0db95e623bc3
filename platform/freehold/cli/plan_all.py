"""`freehold plan --all`: the cost of all stacks together."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError, load_stack, stack_names
from freehold.planning.plan import Plan, make_plan

from .plan_models import models_for


def show(root: Path, today: str, *, as_json: bool) -> None:
    """Print every stack's cost and the sum; FreeholdError at the end when a stack is refused."""
    plans: list[Plan] = []
    refused: list[str] = []
    for name in stack_names(root):
        try:
            stack = load_stack(name, root)
            plans.append(make_plan(name, stack, models=models_for(stack, ()), today=today))
        except FreeholdError as error:
            refused.append(str(error))
    if as_json:
        click.echo(json.dumps(_summary(plans), indent=2))
    else:
        Console().print(_table(plans))
    if refused:
        raise FreeholdError("\n".join([f"not in the sum: {len(refused)} refused", *refused]))


def _summary(plans: list[Plan]) -> dict[str, object]:
    stacks = [
        {
            "stack": plan.stack,
            "gpu_usd_per_month": round(plan.cost.gpu_usd_per_month, 2) if plan.cost else 0.0,
            "usd_per_month": round(plan.cost.usd_per_month, 2) if plan.cost else 0.0,
        }
        for plan in plans
    ]
    total = sum(plan.cost.usd_per_month for plan in plans if plan.cost)
    return {"stacks": stacks, "usd_per_month": round(total, 2)}


def _table(plans: list[Plan]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("stack", "GPU nodes", "$/hour", "GPUs $/month", "all in $/month"):
        left = heading in ("stack", "GPU nodes")
        table.add_column(heading, justify="left" if left else "right")
    for plan in plans:
        nodes = ", ".join(f"{group.nodes} x {group.instance_type}" for group in plan.node_groups)
        cost = plan.cost
        figures = (
            (
                f"{cost.usd_per_hour:,.2f}",
                f"{cost.gpu_usd_per_month:,.0f}",
                f"{cost.usd_per_month:,.0f}",
            )
            if cost
            else ("-", "-", "-")
        )
        hosted = "none: Bedrock" if any(pool.hosted for pool in plan.pools) else "this machine"
        table.add_row(plan.stack, nodes or hosted, *figures)
    costs = [plan.cost for plan in plans if plan.cost]
    table.add_row(
        "all",
        "",
        f"{sum(cost.usd_per_hour for cost in costs):,.2f}",
        f"{sum(cost.gpu_usd_per_month for cost in costs):,.0f}",
        f"{sum(cost.usd_per_month for cost in costs):,.0f}",
        style="bold",
    )
    return table
