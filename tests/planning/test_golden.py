"""The presets' plans, committed and reviewed by hand: a change of code or catalog shows what it moves.

Regenerate, then read the difference: .venv/bin/python tests/planning/test_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.config import load_stack
from freehold.planning.plan import make_plan
from freehold.planning.to_json import plan_to_json

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
PRESETS = ("small", "medium", "large")
REVIEWED = (*PRESETS, "bedrock")


def planned(name: str) -> dict[str, Any]:
    """The plan as printed, less the release: its versions have their own test."""
    plan = plan_to_json(make_plan(name, load_stack(name, ROOT)))
    del plan["release"]
    return json.loads(json.dumps(plan))


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", REVIEWED)
def test_a_preset_s_plan_is_the_reviewed_one(name: str) -> None:
    assert planned(name) == golden(name)


# What the review against the published figures holds on to (prices of 2026-07-20 and 2026-01-15,
# 730 hours): whoever regenerates must still be within these.
def test_small_is_one_l4_for_all_three_pools() -> None:
    plan = planned("small")
    assert {pool["node_group"] for pool in plan["pools"]} == {"shared"}
    assert plan["node_groups"][0]["nodes"] == 1
    # "$400-600 a month" is a g6.xlarge with one engine on it; three engines want its next size.
    assert 588 < plan["cost"]["gpu_usd_per_month"] < 750


def test_medium_is_within_three_to_eight_thousand() -> None:
    plan = planned("medium")
    assert 3_000 <= plan["cost"]["gpu_usd_per_month"] <= 8_000
    chat = plan["pools"][0]
    assert not (chat["gpu"] == "L40S" and chat["tensor_parallel"] > 2)


def test_large_is_eight_h200_by_capacity_block() -> None:
    plan = planned("large")
    chat = plan["pools"][0]
    assert chat["instance_type"] == "p5e.48xlarge" and chat["gpus_per_replica"] == 8
    assert chat["capacity"] == "capacity_block"
    assert 29_000 <= plan["cost"]["gpu_usd_per_month"] <= 31_000


@pytest.mark.parametrize("name", PRESETS)
def test_every_pool_holds_its_tier_s_context(name: str) -> None:
    least = {"small": 2_000, "medium": 20_000, "large": 50_000}[name]
    chat = planned(name)["pools"][0]
    assert chat["max_model_len"] >= least and chat["max_concurrency"] >= 1
    assert "--max-model-len" in chat["engine_args"]


def write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in REVIEWED:
        text = json.dumps(planned(name), indent=2) + "\n"
        (GOLDEN / f"{name}.json").write_text(text)


if __name__ == "__main__":
    write()
