"""What of a plan is about its pools: where they run, what they hold, how fast they are."""

from __future__ import annotations

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from freehold.planning.forecast import Forecast
from freehold.planning.memory import Split
from freehold.planning.plan import Plan, PoolPlan

from .plain_table import plain_table


def pools_table(plan: Plan) -> Table:
    table = plain_table("pool", "model", "runs on", "holds", "at the planned load (medians)")
    for pool in plan.pools:
        table.add_row(_name(pool), _model(pool), _machine(pool), _holds(pool), _speed(pool))
    return table


def _name(pool: PoolPlan) -> Text:
    name = Text(pool.name, "bold")
    if pool.rollout:
        name.append(f"\n{pool.rollout.percent:g} % of {pool.rollout.of}", "dim")
    return name


def _model(pool: PoolPlan) -> str:
    quantization = pool.placement.quantization if pool.placement else None
    return f"{pool.model or pool.settings.model}{f' {quantization}' if quantization else ''}"


def _machine(pool: PoolPlan) -> str:
    placement = pool.placement
    if pool.hosted:
        return f"{pool.hosted.provider} as\n{pool.hosted.id}"
    if placement is None:
        return f"{pool.replicas} x here"
    split = Split(placement.tensor_parallel, placement.pipeline_parallel)
    on = f"{placement.nodes} x {placement.instance_type}, {placement.capacity.replace('_', ' ')}"
    replicas = "1 replica" if pool.replicas == 1 else f"{pool.replicas} replicas"
    if pool.disaggregation:
        parts = pool.disaggregation.parts
        replicas = f"{parts.prefill} that read and {parts.decode} that write,"
    ranks = f" ({split})" if split.gpus > 1 else ""
    return f"{on}\n{replicas} of {placement.gpus_per_replica} {placement.gpu}{ranks}"


def _holds(pool: PoolPlan) -> str:
    sizing = pool.sizing
    if pool.hosted and pool.hosted.max_context:
        return f"texts to {pool.hosted.max_context:,}"
    if sizing is None:
        return "-"
    if sizing.kv_cache_tokens is None:
        return f"texts to {sizing.context:,}"
    held = f"{sizing.max_concurrency} x {sizing.context:,} tokens"
    if pool.demand and pool.role == "generate":
        tokens = pool.demand.input_tokens + pool.demand.output_tokens
        held += f"\n{sizing.max_typical_concurrency} x {tokens:,}"
    return held


def _speed(pool: PoolPlan) -> Text:
    forecast = pool.predicted
    if forecast is None:
        load = f"{pool.hosted.requests_per_minute:,.1f} requests/min; " if pool.hosted else ""
        return Text(load + (pool.not_predicted or "-"), "dim")
    text = Text(f"TTFT {_ms(forecast.median_ttft_ms, forecast.ttft_band)}, ")
    text.append(f"TPOT {_ms(forecast.median_tpot_ms, forecast.tpot_band)}\n")
    text.append(_throughput(forecast), "dim")
    if forecast.basis.startswith("calibrated"):
        text.append(f"\n{forecast.basis}", "dim")
    return text


def _ms(value: float, band: tuple[float, float]) -> str:
    low, high = (value * factor for factor in band)
    return f"{value:,.0f} ms ({low:,.0f}-{high:,.0f})"


def _throughput(forecast: Forecast) -> str:
    return (
        f"{forecast.concurrency:,.1f} in flight, {forecast.output_throughput:,.0f} tokens/s out, "
        f"{forecast.request_throughput * 60:,.1f} requests/min"
    )


def memory_table(plan: Plan) -> Padding:
    table = plain_table(
        "GiB a GPU", "weights", "KV cache", "activations", "overhead", "of", numbers=5
    )
    for pool in plan.pools:
        if pool.sizing:
            memory = pool.sizing.memory
            parts = (memory.weights, memory.kv_cache, memory.activations, memory.overhead)
            share = f"{memory.available:.1f} ({memory.share:.0%})"
            table.add_row(pool.name, *(f"{part:.1f}" for part in parts), share)
    return Padding(table, (1, 0, 0, 0))
