"""Rules between keys: every contradiction is found at once, each with its place and its mend."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.config import FreeholdError, parse_stack

from .trees import EKS, EXISTING, LOCAL, changed


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(FreeholdError) as caught:
        parse_stack(tree, "Pulumi.x.yaml")
    return str(caught.value)


def test_every_contradiction_is_told_at_once() -> None:
    tree = changed(
        EKS,
        pools__0__replicas=2,
        pools__0__engine={"tensor_parallel": 2, "max_model_len": 4096},
        pools__0__context=1000,
        gateway={"keys": [{"tenant": "a", "models": ["gpt"]}]},
    )
    message = refusal(tree)
    assert "5 mistakes" in message
    for place, mend in (
        ("pools[0].replicas", "pin placement.replicas"),
        ("pools[0].engine.tensor_parallel", "say placement.tensor_parallel"),
        ("pools[0].engine.max_model_len", "say context"),
        ("pools[0].demand", "set context: 2200 or more"),
        ("gateway.keys[0].models", "served are: chat"),
    ):
        assert place in message and mend in message


def test_a_cluster_pool_needs_its_context_and_demand() -> None:
    tree = changed(EKS, pools__0={"name": "chat", "role": "generate", "model": "llama-3.1-8b"})
    message = refusal(tree)
    assert "pools[0].context: is required" in message
    assert "pools[0].demand: is required" in message


def test_a_cache_group_of_an_unsealed_gateway_is_told() -> None:
    alone = [{"tenant": "a", "cache_group": "team"}]
    for gateway in ({"keys": alone}, {"keys": [*alone, {"tenant": "b"}], "sealed": False}):
        assert "gateway.keys[0].cache_group: has no effect" in refusal(
            {**LOCAL, "gateway": gateway}
        )
    assert parse_stack({**LOCAL, "gateway": {"keys": alone, "sealed": True}}, "x").gateway.seals


def test_an_embedding_pool_needs_no_demand() -> None:
    pool = {"name": "embed", "role": "embed", "model": "bge-m3", "context": 8192}
    assert parse_stack(changed(EKS, pools__0=pool), "x")


@pytest.mark.parametrize("key", ["ha", "hours", "budget", "capacity"])
def test_what_is_about_bought_gpus_has_no_place_on_a_laptop(key: str) -> None:
    values = {
        "ha": True,
        "hours": {"days": ["mon"], "start": "08:00", "stop": "18:00"},
        "budget": {"usd_per_month": 1},
        "capacity": {"kind": "spot"},
    }
    assert f"{key}: has no effect" in refusal({**LOCAL, key: values[key]})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gateway__exposure", "internet"),
        ("gateway__tls", {"secret": "tls"}),
        ("cache__nvme_gib", 10),
        ("cache__redis", {"endpoint": "redis.example.org"}),
        ("pools__0__gpu_group", "shared"),
        ("pools__0__quantization", "fp8"),
    ],
)
def test_what_only_a_cluster_has_is_told_on_a_laptop(path: str, value: Any) -> None:
    message = refusal(changed(LOCAL, **{path: value}))
    assert "has no effect with target.kind local" in message


def test_a_stand_in_model_is_for_a_laptop() -> None:
    assert "pools[0].fallback" in refusal(changed(EKS, pools__0__fallback="tiny-chat"))


def test_machines_you_own_have_no_capacity_to_buy() -> None:
    assert "capacity: has no effect" in refusal(changed(EXISTING, capacity={"kind": "spot"}))


@pytest.mark.parametrize(
    "demand",
    [
        {"input_tokens": 1, "output_tokens": 1},
        {"users": 3, "concurrency": 2, "input_tokens": 1, "output_tokens": 1},
        {"users": 3, "requests_per_minute": 2, "input_tokens": 1, "output_tokens": 1},
    ],
)
def test_demand_is_said_in_one_way(demand: dict[str, Any]) -> None:
    assert "exactly one way" in refusal(changed(EKS, pools__0__demand=demand))


def test_requests_and_tokens_a_minute_go_together() -> None:
    demand = {
        "requests_per_minute": 60,
        "tokens_per_minute": 200_000,
        "input_tokens": 2000,
        "output_tokens": 200,
    }
    assert parse_stack(changed(EKS, pools__0__demand=demand), "x")


def test_pools_on_one_gpu_are_whole_and_bought_alike() -> None:
    embed = {
        "name": "embed",
        "role": "embed",
        "model": "bge-m3",
        "context": 8192,
        "gpu_group": "shared",
        "capacity": {"kind": "spot"},
    }
    tree = changed(EKS, pools__0__gpu_group="shared", pools__0__placement={"tensor_parallel": 2})
    tree["pools"].append(embed)
    message = refusal(tree)
    assert "pools[0].placement: 2 GPUs a replica do not go with gpu_group" in message
    assert "pools[1].capacity: differs" in message


def test_a_group_of_one_is_a_mistake() -> None:
    assert "only chat is in the group" in refusal(changed(EKS, pools__0__gpu_group="alone"))


def test_hours_end_after_they_start() -> None:
    hours = {"days": ["mon", "tue"], "start": "18:00", "stop": "08:00"}
    assert "hours.stop" in refusal(changed(EKS, hours=hours))
    hours = {"days": ["mon", "tue"], "start": "08:00", "stop": "18:30"}
    stack = parse_stack(changed(EKS, hours=hours), "x")
    assert stack.hours and stack.hours.a_week == 21
