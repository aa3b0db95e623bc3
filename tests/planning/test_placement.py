"""Placement: the cheapest that meets what is asked, the reasons of the rest, and refusals that help."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from freehold.catalog import instances as catalog
from freehold.config import FreeholdError, parse_stack
from freehold.planning.plan import Plan, PoolPlan, make_plan

from .stacks import eks_stack, tree

SHARED = [
    {"name": "chat", "gpu_group": "shared"},
    {"name": "embed", "role": "embed", "model": "bge-m3", "context": 8192, "gpu_group": "shared"},
    {
        "name": "rerank",
        "role": "rerank",
        "model": "bge-reranker-v2-m3",
        "context": 8192,
        "gpu_group": "shared",
    },
]


def plan(*arguments: Any, **keywords: Any) -> Plan:
    return make_plan("test", eks_stack(*arguments, **keywords))


def chat(*arguments: Any, **keywords: Any) -> PoolPlan:
    return plan(*arguments, **keywords).pools[0]


def refusal(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(FreeholdError) as caught:
        plan(*arguments, **keywords)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("model", ["qwen2.5-7b", "llama-3.3-70b", "gpt-oss-120b"])
def test_the_chosen_one_is_the_cheapest_that_does_and_every_other_has_its_reason(
    model: str,
) -> None:
    search = chat(model, pool={"objectives": {"median_tpot_ms": 60}}).search
    assert search and search.chosen and search.chosen.problem is None
    for option in search.looked_at:
        assert option.problem or option.rank >= search.chosen.rank
    for option in search.too_dear:
        assert option.usd_per_hour > search.chosen.usd_per_hour
    considered = {option.offer.instance.name for option in [*search.looked_at, *search.too_dear]}
    assert all(search.misfits.get(name) for name in search.misfits)
    sold = {name for name, one in catalog.load_instances().items() if "on_demand" in one.capacity}
    assert considered | set(search.misfits) == sold


def test_a_tighter_objective_never_costs_less() -> None:
    costs = []
    for limit in (80, 30, 12):
        cost = plan("llama-3.1-8b", pool={"objectives": {"median_tpot_ms": limit}}).cost
        assert cost
        costs.append(cost.gpu_usd_per_hour)
    assert costs == sorted(costs)


def test_an_objective_that_nothing_meets_is_refused_with_what_is_reached() -> None:
    message = refusal("llama-3.1-8b", pool={"objectives": {"median_tpot_ms": 0.01}})
    assert "ms, 0.01 asked for (even with 32 replicas)" in message
    assert "works: without the objectives" in message


def test_ranks_that_do_not_divide_the_heads_are_refused_with_those_that_do() -> None:
    message = refusal("llama-3.3-70b", pool={"placement": {"tensor_parallel": 3}})
    assert "placement.tensor_parallel 3 does not divide 64 heads: 1, 2, 4, 8, 16" in message
    assert "works: " in message


def test_70b_on_one_l40s_says_what_it_needs_and_what_works() -> None:
    message = refusal(
        "llama-3.3-70b",
        context=20_000,
        pool={"quantization": "fp8", "placement": {"instance_type": "g6e.xlarge"}},
    )
    assert "llama-3.3-70b: fp8 with one request of 20,000 tokens needs 7" in message
    assert "on one GPU, L40S gives 40.9" in message
    assert "quantization: int4 on " in message or "g7e" in message


def test_p5e_on_demand_is_refused_and_p5en_named() -> None:
    pool = {"placement": {"instance_type": "p5e.48xlarge"}}
    message = refusal("deepseek-r1", pool=pool, region="us-east-2")
    assert (
        "p5e.48xlarge is not sold on demand, only by reservation or as a Capacity Block" in message
    )
    assert "works: p5en.48xlarge" in message


def test_p5e_by_capacity_block_is_planned_and_said_to_be_unbought() -> None:
    planned = plan("deepseek-r1", region="us-east-2", capacity={"kind": "capacity_block"})
    assert planned.pools[0].placement
    assert planned.pools[0].placement.instance_type == "p5e.48xlarge"
    assert any("is not bought yet" in warning for warning in planned.warnings)


def test_p5e_is_not_in_us_east_1() -> None:
    pool = {"placement": {"instance_type": "p5e.48xlarge"}}
    message = refusal("deepseek-r1", pool=pool, capacity={"kind": "capacity_block"})
    assert "p5e.48xlarge is not sold in us-east-1: us-east-2, us-west-2" in message


def test_an_unknown_instance_names_the_nearest() -> None:
    message = refusal("llama-3.1-8b", pool={"placement": {"instance_type": "g6e.xlrage"}})
    assert 'the catalog has no "g6e.xlrage" (did you mean "g6e.xlarge"?)' in message


def test_everything_wrong_is_told_at_once() -> None:
    pools = [
        {"name": "chat", "placement": {"tensor_parallel": 3}},
        {
            "name": "long",
            "role": "generate",
            "model": "mistral-7b",
            "context": 100_000,
            "demand": {"concurrency": 1, "input_tokens": 10, "output_tokens": 10},
        },
        {"name": "embed", "role": "embed", "model": "llama-3.1-8b", "context": 8192},
    ]
    message = refusal("llama-3.3-70b", pools=pools, cache={"redis": {"memory_gib": 100}})
    assert "4 things cannot be" in message
    for words in (
        "tensor_parallel 3",
        "context: mistral-7b takes 32,768 tokens, 100,000 asked for",
        "role: llama-3.1-8b is made to generate, not to embed: bge-m3",
        "cache.redis.memory_gib: 100 GiB",
    ):
        assert words in message


def test_licences_are_enforced() -> None:
    message = refusal("llama-3.1-8b", allowed_licences=["apache-2.0", "mit"])
    assert "llama-3.1-8b is under llama3.1" in message and "qwen2.5-7b" in message
    assert plan("qwen2.5-7b", allowed_licences=["apache-2.0"])


def test_a_format_that_nobody_published_is_refused_with_those_published() -> None:
    message = refusal("mistral-7b", pool={"quantization": "int4"})
    assert "no int4 weights of mistral-7b are published, only bf16" in message


def test_four_bits_are_not_taken_unless_asked_for() -> None:
    search = chat("llama-3.3-70b").search
    assert search
    formats = {p.fit.checkpoint.quantization for o in search.looked_at for p in o.pools}
    assert formats <= {"bf16", "fp8", "int8"}
    asked = chat("llama-3.3-70b", pool={"quantization": "int4"}).placement
    assert asked and asked.quantization == "int4"


def test_a_repository_decides_its_format() -> None:
    pool = chat("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16")
    assert pool.placement and pool.placement.quantization == "int4"
    assert pool.settings.model == "RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16"


def test_pools_on_one_gpu_share_memory_that_adds_up() -> None:
    pools = plan("qwen2.5-7b", pools=SHARED).pools
    sizings = [pool.sizing for pool in pools]
    assert all(sizings)
    assert sum(s.memory.share for s in sizings if s) <= 0.92 + 1e-9
    for sizing in sizings:
        assert sizing and sizing.memory.total <= sizing.memory.available + 1e-9
    assert len({p.placement.node_group for p in pools if p.placement}) == 1
    shares = [pool.settings.options.memory_share for pool in pools]
    assert shares == [sizing.memory.share for sizing in sizings if sizing]


def test_pools_that_do_not_fit_on_one_gpu_are_refused_with_their_needs() -> None:
    message = refusal(
        "llama-3.3-70b", pools=SHARED, pool={"placement": {"instance_type": "g6e.xlarge"}}
    )
    assert "together they need" in message and "embed" in message


def test_ha_places_two_replicas_on_two_nodes_and_prices_both() -> None:
    one, two = plan("llama-3.1-8b"), plan("llama-3.1-8b", ha=True)
    placement = two.pools[0].placement
    assert placement and placement.nodes >= 2 and two.pools[0].replicas >= 2
    assert one.cost and two.cost and two.cost.gpu_usd_per_hour > one.cost.gpu_usd_per_hour
    assert len(two.node_groups[0].zones) == 2
    assert not any(line.startswith("chat") for line in two.single_points_of_failure)
    assert any(line.startswith("chat: one replica") for line in one.single_points_of_failure)


def test_ha_and_a_reservation_in_one_zone_contradict_each_other() -> None:
    capacity = {"kind": "reservation", "id": "cr-0123456789abcdef0", "zone": "us-east-1a"}
    assert "ha: true wants two" in refusal("llama-3.1-8b", ha=True, capacity=capacity)


PIN = {
    "instance_type": "g6e.2xlarge",
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
    "replicas": 2,
}


def test_a_pinned_placement_stays_whatever_prices_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def placed(pin: dict[str, Any]) -> tuple[object, int]:
        pool = chat("llama-3.1-8b", pool={"placement": pin, "quantization": "fp8"})
        return pool.placement, pool.replicas

    pinned, free = placed(PIN), placed({})
    real = catalog.load_instances()

    def dearer(instance: catalog.Instance) -> catalog.Instance:
        factor = 100 if instance.gpu in ("L4", "L40S") else 1
        prices = {
            capacity: {
                region: dataclasses.replace(price, usd=price.usd * factor)
                for region, price in regions.items()
            }
            for capacity, regions in instance.prices.items()
        }
        return dataclasses.replace(instance, prices=prices)

    changed = {name: dearer(instance) for name, instance in real.items()}
    monkeypatch.setattr("freehold.planning.market.load_instances", lambda: changed)
    assert placed(PIN) == pinned
    assert placed({}) != free


def test_a_pin_is_kept_and_its_shortfall_said() -> None:
    pin = {**PIN, "replicas": 1}
    demand = {"concurrency": 200, "input_tokens": 8000, "output_tokens": 100}
    message = refusal("llama-3.1-8b", demand=demand, context=8192, pool={"placement": pin})
    assert "1 x 1 GPU holds" in message and "fewer than the demand" in message


def own(nodes: list[dict[str, Any]], **keywords: Any) -> Plan:
    target = {
        "kind": "existing",
        "context": "lab",
        "storage_class": "local-path",
        "nodes": nodes,
    }
    return make_plan("test", parse_stack(tree(target=target, **keywords), "test"))


SINGLE = {"name": "single", "gpu": "L40S", "gpus": 1, "count": 2, "vcpu": 16, "ram_gib": 128}


def test_machines_you_own_are_placed_on_and_run_out() -> None:
    placed = own([SINGLE])
    assert placed.pools[0].placement
    assert placed.pools[0].placement.instance_type == "single"
    assert placed.cost and placed.cost.usd_per_month == 0
    second = {**tree()["pools"][0], "name": "second", "placement": {"replicas": 2}}
    with pytest.raises(FreeholdError, match=r"second: .*needs 2 single, 1 are free"):
        own([SINGLE], pools=[second])


def test_a_gpu_that_the_catalog_lacks_is_named() -> None:
    with pytest.raises(FreeholdError, match=r'target\.nodes\[0\]\.gpu: .* no GPU "L40"'):
        own([{**SINGLE, "gpu": "L40"}])


def test_the_pcie_trap_is_shown_with_ways_around_it() -> None:
    demand = {"concurrency": 6, "input_tokens": 24_000, "output_tokens": 500}
    pool = chat("llama-3.3-70b", context=51_200, demand=demand, pool={"quantization": "fp8"})
    ways = {way.name: way.option for way in pool.ways}
    assert {"the trap", "pipeline parallel", "both", "NVLink"} <= set(ways)
    trap = ways["the trap"]
    assert trap and trap.offer.gpu.name == "L40S" and trap.split.tensor_parallel == 4
    around = [ways["pipeline parallel"], ways["both"], ways["NVLink"]]
    for option in around:
        assert option and option.tokens_per_dollar and trap.tokens_per_dollar
        # Measured all-reduce on four L40S: 5 GB/s. Every way around it gets more for a dollar.
        assert option.tokens_per_dollar > trap.tokens_per_dollar
    assert pool.placement and not (
        pool.placement.gpu == "L40S" and pool.placement.tensor_parallel > 2
    )


def test_who_pins_the_trap_is_warned() -> None:
    pin = {"instance_type": "g6e.12xlarge", "tensor_parallel": 4}
    planned = plan("llama-3.3-70b", context=16_384, pool={"quantization": "fp8", "placement": pin})
    assert any("PCIe, which loses beyond two" in warning for warning in planned.warnings)
    assert planned.pools[0].ways


def test_one_gpu_models_are_not_told_of_the_trap() -> None:
    assert chat("llama-3.1-8b").ways == ()


def test_demand_in_users_and_in_requests_finds_its_own_concurrency() -> None:
    lengths = {"input_tokens": 1000, "output_tokens": 200}
    by_users = chat("llama-3.1-8b", demand={"users": 50, "think_seconds": 30, **lengths}).predicted
    assert by_users and 0 < by_users.concurrency < 50
    # A user's round is an answer and a pause: users = rate x (seconds + pause).
    seconds = by_users.concurrency / by_users.request_throughput
    assert by_users.request_throughput * (seconds + 30) == pytest.approx(50, rel=0.05)
    by_rate = chat("llama-3.1-8b", demand={"requests_per_minute": 60, **lengths}).predicted
    assert by_rate and by_rate.request_throughput == pytest.approx(1.0, rel=0.05)
    by_tokens = chat("llama-3.1-8b", demand={"tokens_per_minute": 72_000, **lengths}).predicted
    assert by_tokens == by_rate


def test_parsers_and_template_come_from_the_catalog_unless_said() -> None:
    options = chat("llama-3.1-8b").settings.options
    assert options.tool_call_parser == "llama3_json"
    assert options.chat_template and options.chat_template.endswith("llama3.1_json.jinja")
    said = chat("llama-3.1-8b", pool={"engine": {"tool_call_parser": "pythonic"}}).settings.options
    assert said.tool_call_parser == "pythonic"
