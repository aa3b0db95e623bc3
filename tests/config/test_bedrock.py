"""A stack whose models Bedrock serves: what it must say, and may not."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.config import FreeholdError, parse_stack
from freehold.config.bedrock import BedrockTarget

from .trees import EKS, changed

BEDROCK: dict[str, Any] = {
    "target": {"kind": "bedrock", "region": "us-east-2"},
    "pools": [
        {
            "name": "chat",
            "role": "generate",
            "model": "openai.gpt-oss-120b-1:0",
            "demand": {"requests_per_minute": 25, "input_tokens": 4000, "output_tokens": 300},
        }
    ],
}


def refusal(tree: dict[str, Any]) -> str:
    with pytest.raises(FreeholdError) as caught:
        parse_stack(tree, "Pulumi.x.yaml")
    return str(caught.value)


def with_pool(**keys: Any) -> dict[str, Any]:
    return {**BEDROCK, "pools": [{**BEDROCK["pools"][0], **keys}]}


def target(tree: dict[str, Any]) -> BedrockTarget:
    found = parse_stack(tree, "x").target
    assert isinstance(found, BedrockTarget)
    return found


def test_requests_go_to_the_region_s_endpoint_or_to_the_one_that_is_named() -> None:
    assert target(BEDROCK).address == ("bedrock-runtime.us-east-2.amazonaws.com", 443)
    own = changed(BEDROCK, target__endpoint="https://vpce-1.bedrock-runtime.vpce.example.com:8443")
    assert target(own).address == ("vpce-1.bedrock-runtime.vpce.example.com", 8443)


@pytest.mark.parametrize("endpoint", ["http://plain.example.com", "https://a.example.com/openai"])
def test_an_endpoint_is_https_without_a_path(endpoint: str) -> None:
    assert "target.endpoint: " in refusal(changed(BEDROCK, target__endpoint=endpoint))


def test_the_gateway_may_have_a_cluster_in_another_region() -> None:
    cluster = EKS["target"]
    assert target(changed(BEDROCK, target__cluster=cluster)).cluster is not None
    wrong = changed(BEDROCK, target__cluster={**cluster, "zones": ["eu-west-1a", "eu-west-1b"]})
    assert "target.cluster: zones" in refusal(wrong)


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"engine": {"max_num_seqs": 8}}, "engine"),
        ({"placement": {"replicas": 2}}, "placement"),
        ({"quantization": "fp8"}, "quantization"),
        ({"context": 8192}, "context"),
        ({"replicas": 2}, "replicas"),
        ({"policy": "session"}, "policy"),
        ({"revision": "abc"}, "revision"),
        ({"capacity": {"kind": "spot"}}, "capacity"),
    ],
)
def test_what_is_about_engines_is_refused(keys: dict[str, Any], path: str) -> None:
    message = refusal(with_pool(**keys))
    assert f"pools[0].{path}: has no effect with target.kind bedrock" in message


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"cache": {"host_memory_gib": 1}}, "cache"),
        ({"ha": True}, "ha"),
        ({"capacity": {"kind": "spot"}}, "capacity"),
        ({"allowed_licences": ["apache-2.0"]}, "allowed_licences"),
        ({"gateway": {"replicas": 3}}, "gateway.replicas"),
        ({"gateway": {"sealed": True}}, "gateway.sealed"),
        ({"observability": {"prometheus": {"port": 9091}}}, "observability.prometheus"),
    ],
)
def test_what_a_stack_without_engines_has_not_is_refused(keys: dict[str, Any], path: str) -> None:
    assert f"\n  {path}: has no effect" in refusal({**BEDROCK, **keys})


def test_only_chat_is_served_there() -> None:
    assert 'pools[0].role: "embed" is not served' in refusal(with_pool(role="embed"))


def test_the_demand_is_a_rate_and_people_are_turned_into_the_most_they_can_ask() -> None:
    assert "pools[0].demand: is required" in refusal(with_pool(demand=None))
    lengths = {"input_tokens": 4000, "output_tokens": 300}
    people = refusal(with_pool(demand={"users": 30, "think_seconds": 60, **lengths}))
    assert "say requests_per_minute (at most 30: 30 users, 60 s each)" in people
    in_flight = refusal(with_pool(demand={"concurrency": 4, **lengths}))
    assert "must be a rate" in in_flight and "at most" not in in_flight
