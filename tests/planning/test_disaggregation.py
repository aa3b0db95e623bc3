"""Prefill and decode apart: how many of each, what the network costs, what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.cli.plan_write import pin
from freehold.config import FreeholdError, parse_stack
from freehold.engine.command_line import command_line
from freehold.planning.plan import Plan, make_plan
from freehold.planning.to_json import plan_to_json

EKS_TARGET = {
    "kind": "eks",
    "region": "us-east-1",
    "zones": ["us-east-1a", "us-east-1b"],
    "endpoint": {"runner": "in-vpc"},
}
DEMAND = {"concurrency": 64, "input_tokens": 4000, "output_tokens": 400}
# 32 layers, 8 KV heads of 128, two of them (K and V), 2 bytes each: 128 KiB a token.
TOKEN_BYTES = 32 * 8 * 128 * 2 * 2


def plan_of(
    apart: dict[str, Any] | None = None, stack: dict[str, Any] | None = None, **pool: Any
) -> Plan:
    tree = {
        "target": EKS_TARGET,
        "pools": [
            {
                "name": "chat",
                "role": "generate",
                "model": "llama-3.1-8b",
                "quantization": "bf16",
                "context": 8192,
                "demand": DEMAND,
                "placement": {"instance_type": "g6e.2xlarge"},
                "disaggregated": {"link_gbps": 100} if apart is None else apart,
                **pool,
            }
        ],
        **(stack or {}),
    }
    return make_plan("x", parse_stack(tree, "test"))


def parts_of(plan: Plan) -> tuple[int, int]:
    found = plan.pools[0].disaggregation
    assert found
    return found.parts.prefill, found.parts.decode


def ttft(plan: Plan) -> float:
    assert plan.pools[0].predicted
    return plan.pools[0].predicted.median_ttft_ms


def tpot(plan: Plan) -> float:
    assert plan.pools[0].predicted
    return plan.pools[0].predicted.median_tpot_ms


def test_prefill_workers_follow_ttft_and_decode_workers_tpot() -> None:
    def at(ttft_ms: float, tpot_ms: float) -> tuple[int, int]:
        return parts_of(plan_of(objectives={"median_ttft_ms": ttft_ms, "median_tpot_ms": tpot_ms}))

    relaxed, quick_first, quick_next = at(4000, 60), at(1200, 60), at(4000, 29)
    assert quick_first[0] > relaxed[0]
    assert quick_next[1] > relaxed[1]


def test_the_objectives_are_met() -> None:
    plan = plan_of(objectives={"median_ttft_ms": 1500, "median_tpot_ms": 30})
    assert ttft(plan) <= 1500 and tpot(plan) <= 30
    assert plan.pools[0].replicas == sum(parts_of(plan))


def test_what_is_pinned_stays_and_the_rest_is_chosen() -> None:
    pin = {"prefill_replicas": 3, "decode_replicas": 2, "link_gbps": 100}
    assert parts_of(plan_of(pin)) == (3, 2)
    one = plan_of({"prefill_replicas": 3, "link_gbps": 100}, objectives={"median_tpot_ms": 30})
    assert parts_of(one)[0] == 3 and tpot(one) <= 30


def test_more_prefill_never_delays_the_first_token_nor_more_decode_the_next() -> None:
    def pinned(prefill: int, decode: int) -> Plan:
        return plan_of({"prefill_replicas": prefill, "decode_replicas": decode, "link_gbps": 100})

    few, readers, writers = pinned(2, 2), pinned(4, 2), pinned(2, 4)
    assert ttft(readers) < ttft(few) and tpot(writers) < tpot(few)


def test_little_s_law_holds() -> None:
    forecast = plan_of().pools[0].predicted
    assert forecast
    seconds = (forecast.median_ttft_ms + 399 * forecast.median_tpot_ms) / 1e3
    in_flight = forecast.request_throughput * seconds
    assert in_flight == pytest.approx(DEMAND["concurrency"], rel=0.01)


def test_no_part_is_asked_more_than_it_can() -> None:
    """A prefill worker reads one prompt at a time, and a link carries one cache at a time."""
    slow = plan_of({"prefill_replicas": 1, "decode_replicas": 4, "link_gbps": 5})
    found, forecast = slow.pools[0].disaggregation, slow.pools[0].predicted
    assert found and forecast
    assert found.transfer.gigabytes == pytest.approx(4000 * TOKEN_BYTES / 1e9)
    assert found.transfer.seconds == pytest.approx(4000 * TOKEN_BYTES * 8 / 5e9)
    assert forecast.request_throughput <= 1 / found.transfer.seconds


def test_without_rdma_it_is_one_tcp_connection_a_rank_within_the_node_s_network() -> None:
    def gbps(instance: str) -> float:
        pins = {"instance_type": instance}
        parts, demand = {"prefill_replicas": 1, "decode_replicas": 1}, {**DEMAND, "concurrency": 4}
        found = plan_of(parts, placement=pins, demand=demand)
        assert found.pools[0].disaggregation
        return found.pools[0].disaggregation.transfer.gbps

    assert gbps("g6e.xlarge") == 2.5  # the node has no more
    assert gbps("g6e.8xlarge") == 5.0  # the node has 25


def test_the_plan_says_what_the_network_adds_and_what_leaving_it_whole_would_give() -> None:
    text = "\n".join(plan_of({"prefill_replicas": 1, "decode_replicas": 2}).warnings)
    assert "chat: the KV cache of 4,000 tokens is 0.52 GB: at 5 Gbit/s of TCP (no EFA" in text
    assert "moving it adds 839 ms to TTFT" in text
    assert "chat: the same 3 workers without disaggregated: TTFT" in text
    assert "not measured" in text
    measured = "\n".join(plan_of({"link_gbps": 100}).warnings)
    assert "of TCP" not in measured


def test_a_link_that_cannot_carry_the_demand_is_refused() -> None:
    with pytest.raises(FreeholdError, match=r"with 1 Gbit/s between two of them, carry less than"):
        plan_of(
            {"prefill_replicas": 4, "decode_replicas": 4, "link_gbps": 1},
            demand={"requests_per_minute": 600, "input_tokens": 4000, "output_tokens": 400},
        )


def test_each_part_has_its_own_command_line() -> None:
    plan = plan_of({"prefill_replicas": 1, "decode_replicas": 2})
    said = plan_to_json(plan)["pools"][0]["disaggregated"]
    assert (said["prefill"]["replicas"], said["decode"]["replicas"]) == (1, 2)
    for part, role in (("prefill", "kv_producer"), ("decode", "kv_consumer")):
        assert said[part]["engine_args"] == command_line(plan.pools[0].settings_of(part))  # type: ignore[arg-type]
        assert f'"kv_role":"{role}"' in " ".join(said[part]["engine_args"])
    assert said["transfer"]["milliseconds"] == pytest.approx(838.9, abs=0.1)


def test_a_lost_zone_leaves_one_of_each() -> None:
    plan = plan_of(
        stack={"ha": True}, demand={"concurrency": 2, "input_tokens": 500, "output_tokens": 50}
    )
    assert min(parts_of(plan)) == 2
    assert not any("prefill worker" in line for line in plan.single_points_of_failure)
    one = plan_of({"prefill_replicas": 1, "decode_replicas": 2})
    assert any("one prefill worker" in line for line in one.single_points_of_failure)


def test_no_cache_is_set_aside_for_workers_that_keep_none() -> None:
    cache = {"cache": {"host_memory_gib": 8}}
    apart, whole = plan_of(stack=cache), plan_of(stack=cache, disaggregated=None)
    assert apart.pools[0].sizing and whole.pools[0].sizing
    assert apart.pools[0].sizing.host.ram_gib < whole.pools[0].sizing.host.ram_gib - 8
    assert any("nothing in the stack's cache" in line for line in apart.warnings)


def test_users_and_rates_find_their_number_in_flight() -> None:
    users = {"users": 100, "input_tokens": 4000, "output_tokens": 400}
    rate = {"requests_per_minute": 120, "input_tokens": 4000, "output_tokens": 400}
    for demand in (users, rate):
        forecast = plan_of(demand=demand).pools[0].predicted
        assert forecast and 0 < forecast.concurrency < 100
    assert forecast and forecast.request_throughput == pytest.approx(2, rel=0.02)


def test_only_workers_that_write_hold_requests() -> None:
    def held(prefill: int, decode: int) -> int:
        plan = plan_of({"prefill_replicas": prefill, "decode_replicas": decode, "link_gbps": 100})
        assert plan.pools[0].sizing
        return plan.pools[0].sizing.max_concurrency

    assert held(3, 2) == held(1, 2) < held(1, 3)


def test_ranks_that_keep_the_same_latent_each_fetch_it() -> None:
    """DeepSeek's latent is 576 values a token and layer, 61 layers; 8 ranks keep it."""
    plan = plan_of(
        {"prefill_replicas": 1, "decode_replicas": 1},
        {"target": {**EKS_TARGET, "region": "us-east-2", "zones": ["us-east-2a", "us-east-2b"]}},
        model="deepseek-r1",
        quantization="fp8",
        placement={"instance_type": "p5en.48xlarge", "tensor_parallel": 8},
    )
    found = plan.pools[0].disaggregation
    assert found and found.transfer.gbps == 40.0
    assert found.transfer.gigabytes == pytest.approx(4000 * 61 * 576 * 2 * 8 / 1e9)


def test_what_was_chosen_is_pinned_under_its_own_key(tmp_path: Path) -> None:
    plan = plan_of({"prefill_replicas": 1, "decode_replicas": 2})
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text("config:\n  freehold:stack:\n    pools:\n      - name: chat\n")
    pin(file, plan)
    (chat,) = yaml.safe_load(file.read_text())["config"]["freehold:stack"]["pools"]
    assert chat["disaggregated"] == {"prefill_replicas": 1, "decode_replicas": 2}
    assert "replicas" not in chat["placement"]
