"""Keys that a secret store keeps: what is written for External Secrets, and what is not known here."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from freehold.config import FreeholdError, parse_stack
from freehold.config.gateway import GatewayKey

from .programs import changed_plan, pod, run
from .recorded import Program
from .schemas import VERSIONS, check

ACME: dict[str, Any] = {"store": "vault", "key": "llm/acme", "property": "key"}


def keys(acme: dict[str, Any]) -> dict[str, Any]:
    return {"gateway": {"keys": [{"tenant": "acme", "external": acme}, {"tenant": "other"}]}}


@cache
def program() -> Program:
    return run(changed_plan("small", keys(ACME)))


def test_the_operator_is_told_where_the_key_lies_and_what_to_write() -> None:
    made = program().one("ExternalSecret", "gateway-key-acme")
    check(made, VERSIONS[1])
    assert made["metadata"]["namespace"] == "small-gateway"
    assert made["spec"] == {
        "refreshInterval": "60m0s",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "vault"},
        "target": {"name": "gateway-key-acme", "creationPolicy": "Owner"},
        "data": [{"secretKey": "key", "remoteRef": {"key": "llm/acme", "property": "key"}}],
    }


def test_its_value_is_nowhere_here_and_the_gateway_reads_it_like_any_other() -> None:
    secrets = {item["metadata"]["name"] for item in program().all("Secret")}
    assert "gateway-key-acme" not in secrets and "gateway-key-other" in secrets
    assert set(program().result.keys) == {"other"}
    volumes = pod(program(), "Deployment", "gateway")["volumes"]
    (files,) = (each["projected"]["sources"] for each in volumes if each["name"] == "keys")
    assert {each["secret"]["name"] for each in files} >= {"gateway-key-acme", "gateway-key-other"}


def test_another_place_in_the_store_restarts_the_gateway_and_touches_no_other_key() -> None:
    moved = run(changed_plan("small", keys({**ACME, "key": "llm/acme-2"})))

    def digest_of(made: Program) -> str:
        template = made.one("Deployment", "gateway")["spec"]["template"]
        return template["metadata"]["annotations"]["freehold/keys"]

    assert digest_of(moved) != digest_of(program())
    changed = {
        (item["kind"], item["metadata"]["name"])
        for item in moved.objects
        if item not in program().objects
    }
    assert changed == {("ExternalSecret", "gateway-key-acme"), ("Deployment", "gateway")}


def test_every_key_may_be_a_store_s() -> None:
    only = {"gateway": {"keys": [{"tenant": "acme", "external": ACME}]}}
    made = run(changed_plan("small", only))
    assert not [
        one for one in made.all("Secret") if one["metadata"]["namespace"] == "small-gateway"
    ]
    assert made.one("Deployment", "gateway") and not made.result.keys


def test_a_key_has_one_origin() -> None:
    with pytest.raises(ValueError, match="names two places for the key"):
        GatewayKey.model_validate({"tenant": "acme", "secret_env": "ACME", "external": ACME})


def test_a_laptop_has_no_operator() -> None:
    tree = {
        "target": {"kind": "local"},
        "pools": [{"name": "chat", "role": "generate", "model": "tiny-llama"}],
        **keys(ACME),
    }
    with pytest.raises(FreeholdError, match=r"gateway\.keys\[0\]\.external.*without a cluster"):
        parse_stack(json.loads(json.dumps(tree)), "test")
