"""How many requests a worker takes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from freehold.config import load_stack, parse_stack
from freehold.planning.plan import make_plan
from freehold.planning.plan_types import PoolPlan

ROOT = Path(__file__).parents[2]
TARGET = {
    "kind": "eks",
    "region": "us-east-1",
    "zones": ["us-east-1a", "us-east-1b"],
    "endpoint": {"runner": "in-vpc"},
}


def chat(**pool: Any) -> PoolPlan:
    tree = {
        "target": TARGET,
        "pools": [
            {
                "name": "chat",
                "role": "generate",
                "model": "llama-3.1-8b",
                "context": 8192,
                "demand": {"concurrency": 8, "input_tokens": 4000, "output_tokens": 300},
                "objectives": {"median_ttft_ms": 2000},
                **pool,
            }
        ],
    }
    return make_plan("x", parse_stack(tree, "test")).pools[0]


def most(pool: PoolPlan) -> int | None:
    return pool.settings.options.max_queued_requests


@pytest.mark.parametrize("name", ["small", "medium", "large", "onprem"])
def test_a_preset_leaves_room_for_long_conversations_and_none_to_wait_in(name: str) -> None:
    pool = make_plan(name, load_stack(name, ROOT)).pools[0]
    found, seats = most(pool), pool.settings.options.max_num_seqs
    assert found and seats and pool.predicted
    assert pool.predicted.concurrency / pool.replicas < found < seats


def test_the_planned_load_always_has_a_place() -> None:
    pinned = {"instance_type": "g6.2xlarge", "replicas": 1}
    for concurrency in (1, 8, 16):
        demand = {"concurrency": concurrency, "input_tokens": 4000, "output_tokens": 300}
        found = most(chat(demand=demand, placement=pinned, quantization="fp8"))
        assert found and found > concurrency


def test_a_stricter_promise_admits_fewer() -> None:
    demand = {"concurrency": 2, "input_tokens": 4000, "output_tokens": 300}
    pinned = {"placement": {"instance_type": "g6e.2xlarge", "replicas": 1}, "quantization": "fp8"}
    wide, strict = (
        most(chat(demand=demand, objectives={"median_ttft_ms": promised}, **pinned))
        for promised in (5000, 400)
    )
    assert wide and strict and strict < wide


def test_the_stack_file_has_the_last_word() -> None:
    assert most(chat(engine={"max_queued_requests": 300})) == 300


def test_without_a_promise_engines_queue_as_they_like() -> None:
    assert most(chat(objectives={})) is None
