"""How many workers: fixed, by load, or by the clock; each from the plan's own numbers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from freehold.serving.autoscaling import pool_scaling
from freehold.serving.names import Names

from .programs import ROOT, STACKS, changed_plan, plan_of, program_of, run
from .recorded import Program

HOURS = {
    "hours": {
        "days": ["fri", "mon"],
        "start": "08:05",
        "stop": "18:30",
        "timezone": "Europe/Zurich",
    }
}
THREE = {"pools": [{"name": "chat", "placement": {"replicas": 3}}], "budget": None}


def scaled(program: Program, name: str) -> dict[str, Any]:
    (found,) = (
        item["spec"] for item in program.all("ScaledObject") if item["metadata"]["name"] == name
    )
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_one_worker_is_not_scaled(stack: str) -> None:
    assert not program_of(stack).all("ScaledObject")
    for pool in plan_of(stack).pools:
        assert program_of(stack).one("Deployment", pool.name)["spec"]["replicas"] == pool.replicas


def test_several_shrink_with_their_load_and_grow_before_the_queue() -> None:
    plan = changed_plan("medium", THREE)
    program = run(plan)
    spec = scaled(program, "chat")
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 3)
    assert spec["fallback"]["replicas"] == 3
    assert "replicas" not in program.one("Deployment", "chat")["spec"]
    load, kv = (trigger["metadata"] for trigger in spec["triggers"])
    (pool,) = (pool for pool in plan.pools if pool.name == "chat")
    assert pool.sizing
    assert float(load["threshold"]) == pytest.approx(
        0.8 * pool.sizing.max_typical_concurrency / 3, rel=1e-4
    )
    assert float(kv["threshold"]) < 1
    assert load["serverAddress"] == Names("medium").prometheus_url


def test_it_does_not_flap() -> None:
    behavior = scaled(run(changed_plan("medium", THREE)), "chat")["advanced"][
        "horizontalPodAutoscalerConfig"
    ]["behavior"]
    down, up = behavior["scaleDown"], behavior["scaleUp"]
    (pool,) = (pool for pool in plan_of("medium").pools if pool.name == "chat")
    assert pool.sizing
    # Longer than a start, so that a worker is not taken away while its successor would still load.
    assert down["stabilizationWindowSeconds"] > pool.sizing.startup.total
    assert [policy["value"] for policy in (*down["policies"], *up["policies"])] == [1, 1]


def test_with_ha_two_stay() -> None:
    plan = changed_plan("medium", {**THREE, "ha": True})
    (pool,) = (pool for pool in plan.pools if pool.name == "chat")
    scaling = pool_scaling(plan, pool)
    assert scaling and scaling.least == 2


def test_queries_ask_for_metrics_and_labels_that_engines_have() -> None:
    """Against a scrape of the pinned vLLM, which the simulator carries."""
    known = json.loads((ROOT / "workloads/freehold/simulator/vllm_metrics.json").read_text())
    text = json.dumps(known)
    for trigger in scaled(run(changed_plan("medium", THREE)), "chat")["triggers"]:
        query = trigger["metadata"]["query"]
        for name in re.findall(r"vllm:\w+", query):
            assert f'"{name}"' in text, name
        assert set(re.findall(r'(\w+)="', query)) == {"model_name"}


def test_hours_are_kept_by_the_clock_alone() -> None:
    program = run(changed_plan("small", HOURS))
    for name in ("chat", "embed", "rerank"):
        spec = scaled(program, name)
        assert spec["minReplicaCount"] == 0
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "cron"
        assert trigger["metadata"] == {
            "timezone": "Europe/Zurich",
            "start": "5 8 * * 1,5",
            "end": "30 18 * * 1,5",
            "desiredReplicas": "1",
        }


def test_outside_of_hours_clients_are_told_the_time_of_a_whole_start() -> None:
    plan = changed_plan("small", HOURS)
    settings = json.loads(run(plan).one("ConfigMap", "gateway")["data"]["gateway.json"])
    for pool, rendered in zip(plan.pools, settings["pools"], strict=True):
        assert pool.sizing
        assert rendered["start_seconds"] == round(pool.sizing.startup.total)


def test_what_is_paid_anyway_is_not_scaled() -> None:
    block = {
        "kind": "reservation",
        "id": "cr-0123456789abcdef0",
        "zone": "us-east-2a",
    }
    change = {**THREE, "pools": [{**THREE["pools"][0], "capacity": block}]}  # type: ignore[index]
    assert not run(changed_plan("medium", change)).all("ScaledObject")
