"""What holds for any stack that the planner accepts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from freehold.config import FreeholdError, parse_stack
from freehold.planning.plan import Plan, make_plan
from freehold.planning.to_json import plan_to_json

from .stacks import tree

MODELS = [
    "qwen2.5-7b",
    "llama-3.1-8b",
    "gpt-oss-20b",
    "llama-3.3-70b",
    "mixtral-8x7b",
    "gpt-oss-120b",
]
SLOW = settings(max_examples=40)


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    context = draw(st.sampled_from([2048, 8192, 20_000, 32_768]))
    output = draw(st.integers(1, 500))
    load = draw(
        st.sampled_from(
            [
                {"concurrency": draw(st.integers(1, 100))},
                {"users": draw(st.integers(1, 300)), "think_seconds": draw(st.integers(0, 90))},
                {"requests_per_minute": draw(st.integers(1, 300))},
            ]
        )
    )
    demand = {
        **load,
        "input_tokens": draw(st.integers(1, context - output)),
        "output_tokens": output,
        "prefix_hit_rate": draw(st.sampled_from([0.0, 0.5, 0.9])),
    }
    pool: dict[str, Any] = {}
    if draw(st.booleans()):
        pool["objectives"] = {"median_tpot_ms": draw(st.sampled_from([20, 50, 100]))}
    if draw(st.booleans()):
        pool["engine"] = {"kv_cache_dtype": "fp8"}
    return tree(
        draw(st.sampled_from(MODELS)),
        context=context,
        demand=demand,
        pool=pool,
        region="us-east-2",
        ha=draw(st.booleans()),
        capacity={"kind": draw(st.sampled_from(["on_demand", "spot"]))},
    )


def accepted(stack: dict[str, Any]) -> Plan:
    try:
        return make_plan("test", parse_stack(stack, "test"))
    except FreeholdError as error:
        assert "cannot be" in str(error)
        assume(False)
        raise


@SLOW
@given(stacks())
def test_a_plan_that_is_accepted_fits(stack: dict[str, Any]) -> None:
    planned = accepted(stack)
    for pool in planned.pools:
        sizing, placement, forecast = pool.sizing, pool.placement, pool.predicted
        assert sizing and placement and forecast
        assert sizing.memory.total <= sizing.memory.available + 1e-9
        assert sizing.max_concurrency >= pool.replicas  # each holds a full-context request
        assert forecast.concurrency <= sizing.max_typical_concurrency + 1e-6
        assert placement.nodes * placement.replicas_per_node >= pool.replicas
        limit = pool.objectives.median_tpot_ms
        assert limit is None or forecast.median_tpot_ms <= limit
        assert not planned.ha or placement.nodes >= 2


@SLOW
@given(stacks())
def test_cost_adds_up_to_its_items_also_as_printed(stack: dict[str, Any]) -> None:
    cost = plan_to_json(accepted(stack))["cost"]
    for key in ("usd_per_hour", "usd_per_month"):
        assert sum(item[key] for item in cost["items"]) == pytest.approx(cost[key], abs=1e-4)
        gpus = sum(item[key] for item in cost["items"] if item["gpu"])
        assert gpus == pytest.approx(cost[f"gpu_{key}"], abs=1e-4)


@SLOW
@given(stacks())
def test_printed_memory_adds_up_and_fits(stack: dict[str, Any]) -> None:
    for pool in plan_to_json(accepted(stack))["pools"]:
        memory = pool["memory_gib"]
        parts = [memory[key] for key in ("weights", "kv_cache", "activations", "overhead")]
        assert sum(parts) == pytest.approx(memory["total"], abs=1e-6)
        assert memory["total"] <= memory["available"] + 0.02  # three parts are rounded to 0.01


@SLOW
@given(stacks())
def test_the_same_stack_gives_the_same_plan(stack: dict[str, Any]) -> None:
    assert plan_to_json(accepted(stack)) == plan_to_json(accepted(stack))


def pinned(stack: dict[str, Any], **changes: Any) -> Plan:
    """The stack on eight H100, whatever it costs, with changes to its demand or context."""
    pool = dict(stack["pools"][0])
    pool.pop("objectives", None)
    pool["placement"] = {
        "instance_type": "p5.48xlarge",
        "tensor_parallel": 4,
        "pipeline_parallel": 1,
        "replicas": 2,
    }
    pool["quantization"] = {"gpt-oss-20b": "mxfp4", "gpt-oss-120b": "mxfp4"}.get(
        pool["model"], "bf16"
    )
    pool["context"] = changes.pop("context", pool["context"])
    pool["demand"] = {**pool["demand"], **changes}
    whole = {**stack, "pools": [pool], "capacity": {"kind": "on_demand"}, "ha": False}
    return accepted(whole)


@SLOW
@given(stacks(), st.integers(1, 60), st.integers(1, 60))
def test_latency_never_falls_when_load_rises(stack: dict[str, Any], a: int, b: int) -> None:
    demand = stack["pools"][0]["demand"]
    lengths = {key: demand[key] for key in ("input_tokens", "output_tokens", "prefix_hit_rate")}
    stack["pools"][0]["demand"] = lengths
    few, many = (pinned(stack, concurrency=n).pools[0].predicted for n in sorted((a, b)))
    assert few and many
    assert few.median_ttft_ms <= many.median_ttft_ms * (1 + 1e-9)
    assert few.median_tpot_ms <= many.median_tpot_ms * (1 + 1e-9)


@SLOW
@given(stacks(), st.integers(0, 10_000))
def test_more_context_never_raises_concurrency(stack: dict[str, Any], more: int) -> None:
    context = stack["pools"][0]["context"]
    now = pinned(stack).pools[0].sizing
    then = pinned(stack, context=min(32_768, context + more)).pools[0].sizing
    assert now and then and then.max_concurrency <= now.max_concurrency
