"""`freehold plan STACK --what-if K=V,...`: the plan beside another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError
from freehold.config.errors import nearest
from freehold.config.inheritance import merge
from freehold.config.loader import load_tree, parse_stack
from freehold.planning.plan import make_plan
from freehold.planning.to_json import plan_to_json

from .plan_models import models_for

# Key -> where it is in a pool; for every pool that generates unless `POOL.key` names one.
_POOL_KEYS: dict[str, tuple[str, ...]] = {
    **{
        key: ("demand", key)
        for key in (
            "users",
            "think_seconds",
            "concurrency",
            "requests_per_minute",
            "tokens_per_minute",
            "input_tokens",
            "output_tokens",
            "prefix_hit_rate",
            "accepted_tokens",
        )
    },
    **{key: ("objectives", key) for key in ("median_ttft_ms", "median_tpot_ms")},
    **{
        key: ("placement", key)
        for key in ("instance_type", "tensor_parallel", "pipeline_parallel", "replicas")
    },
    "context": ("context",),
    "model": ("model",),
    "quantization": ("quantization",),
    "kv_cache_dtype": ("engine", "kv_cache_dtype"),
    "capacity": ("capacity", "kind"),
}
# In a narrower terminal lines wrap, but nothing is left out.
_WIDTH = 110


def show(
    name: str,
    root: Path,
    what_if: str,
    model_configs: tuple[str, ...],
    today: str,
    *,
    as_json: bool,
) -> None:
    """Print both plans side by side; FreeholdError when the other one is refused.

    The budget is let go: what it would cost is the question.
    """
    tree, files = load_tree(name, root)
    tree = {key: value for key, value in tree.items() if key != "budget"}
    now = _plan(name, tree, " on ".join(files), model_configs, today)
    source = f"{name} with {what_if}"
    then = _plan(name, apply(tree, what_if), source, model_configs, today)
    if as_json:
        click.echo(json.dumps({"plan": now, "what_if": then}, indent=2))
        return
    console = Console(width=max(Console().width, _WIDTH))
    console.print(_table(now, then, what_if))


def apply(tree: Any, what_if: str) -> Any:
    """The tree of a stack with `K=V,...` in it; values are read as YAML."""
    for part in what_if.split(","):
        key, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals or not text:
            raise FreeholdError(f'--what-if: "{part}" is not KEY=VALUE, such as concurrency=64')
        tree = merge(tree, _change(tree, key, yaml.safe_load(text)))
    return tree


def _change(tree: Any, key: str, value: Any) -> dict[str, Any]:
    pool_name, dot, short = key.rpartition(".")
    if not dot and key == "ha":
        return {key: value}
    if not dot and key == "capacity":
        said = {"capacity": {"kind": value}}
        own = [pool["name"] for pool in tree["pools"] if "capacity" in pool]
        return {**said, "pools": [{"name": name, **said} for name in own]}
    if short not in _POOL_KEYS:
        known = [*_POOL_KEYS, "ha"]
        raise FreeholdError(
            f'--what-if: unknown key "{key}"{nearest(short, known)}; known: {", ".join(known)}, '
            "for one pool as POOL.KEY"
        )
    pools = [
        pool["name"]
        for pool in tree["pools"]
        if (pool["name"] == pool_name if dot else pool.get("role") == "generate")
    ]
    if not pools:
        names = [pool["name"] for pool in tree["pools"]]
        raise FreeholdError(f'--what-if: no pool "{pool_name}"; there are: {", ".join(names)}')
    for step in reversed(_POOL_KEYS[short]):
        value = {step: value}
    return {"pools": [{"name": pool, **value} for pool in pools]}


def _plan(
    name: str, tree: Any, source: str, model_configs: tuple[str, ...], today: str
) -> dict[str, Any]:
    stack = parse_stack(tree, source)
    models = models_for(stack, model_configs)
    return plan_to_json(make_plan(name, stack, models=models, today=today))


def _table(now: dict[str, Any], then: dict[str, Any], what_if: str) -> Table:
    title = f"stack {now['stack']}: what if {what_if}"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("")
    table.add_column("now", justify="right")
    table.add_column("then", justify="right", style="bold")
    for before, after in zip(now["pools"], then["pools"], strict=True):
        for label, *figures in _pool_rows(before, after):
            table.add_row(f"{before['name']} {label}", *figures)
    for label, key, form in (
        ("GPUs a month", "gpu_usd_per_month", "${:,.0f}"),
        ("all in, a month", "usd_per_month", "${:,.0f}"),
        ("a million output tokens", "usd_per_million_output_tokens", "${:,.2f}"),
    ):
        costs = [plan["cost"][key] for plan in (now, then)]
        table.add_row(label, *("-" if cost is None else form.format(cost) for cost in costs))
    return table


def _pool_rows(before: dict[str, Any], after: dict[str, Any]) -> Iterator[list[str]]:
    """What differs or matters of one pool: label, now, then."""
    pools = (before, after)
    if before == after and not before["predicted"]:
        return
    yield ["runs on", *(_machine(pool) for pool in pools)]
    yield ["context", *(f"{pool['max_model_len'] or 0:,}" for pool in pools)]
    if "hosted" not in before:
        yield ["requests of full context", *(f"{pool['max_concurrency'] or 0:,}" for pool in pools)]
    if not (before["predicted"] and after["predicted"]):
        return
    for label, key, form in (
        ("in flight", "concurrency", "{:,.1f}"),
        ("median TTFT", "median_ttft_ms", "{:,.0f} ms"),
        ("median TPOT", "median_tpot_ms", "{:,.1f} ms"),
        ("output tokens a second", "output_throughput", "{:,.0f}"),
    ):
        yield [label, *(form.format(pool["predicted"][key]) for pool in pools)]


def _machine(pool: dict[str, Any]) -> str:
    if "hosted" in pool:
        return pool["hosted"]["id"]
    if pool["instance_type"] is None:
        return "this machine"
    ranks = f"TP{pool['tensor_parallel']}"
    if pool["pipeline_parallel"] > 1:
        ranks += f" x PP{pool['pipeline_parallel']}"
    replicas = f", {pool['replicas']} replicas" if pool["replicas"] > 1 else ""
    return f"{pool['nodes']} x {pool['instance_type']} ({pool['quantization']}, {ranks}{replicas})"
