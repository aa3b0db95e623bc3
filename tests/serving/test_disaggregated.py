"""A pool whose prompts are read by some workers and whose answers are written by others."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest

from freehold.gateway.model import ROUTER_HEALTH
from freehold.serving.gateway_plan import gateway_of
from freehold.serving.names import Names

from .programs import changed_plan, container, pod, run
from .recorded import Program
from .schemas import VERSIONS, check
from .test_network import reaches

PARTS = {"prefill": 1, "decode": 2}
CHANGE = {
    "pools": [
        {
            "name": "chat",
            "disaggregated": {f"{part}_replicas": n for part, n in PARTS.items()},
            "objectives": {"median_ttft_ms": 60_000, "median_tpot_ms": 200},
        }
    ],
    "budget": None,
}
_NIXL, _ENGINE, _ROUTER = 5600, 8000, 8080


@cache
def program() -> Program:
    return run(changed_plan("medium", CHANGE))


def arguments(program: Program, kind: str, name: str, which: str) -> dict[str, list[str]]:
    """Every flag with its values, in order."""
    found: dict[str, list[str]] = {}
    flag = ""
    for argument in container(program, kind, name, which)["args"]:
        if argument.startswith("--"):
            flag = argument
            found.setdefault(flag, [])
        else:
            found[flag].append(argument)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    for item in program().objects:
        check(item, version)


@pytest.mark.parametrize(("part", "role"), [("prefill", "kv_producer"), ("decode", "kv_consumer")])
def test_each_part_is_a_set_of_workers_that_keep_their_names(part: str, role: str) -> None:
    stateful = program().one("StatefulSet", f"chat-{part}")
    assert stateful["spec"]["replicas"] == PARTS[part]
    assert stateful["spec"]["podManagementPolicy"] == "Parallel"
    wanted = {
        "app.kubernetes.io/name": "engine",
        "app.kubernetes.io/instance": "chat",  # one pool to whoever watches it
        "app.kubernetes.io/component": part,
    }
    assert stateful["spec"]["selector"]["matchLabels"] == wanted
    service = program().one("Service", stateful["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == wanted
    budget = program().one("PodDisruptionBudget", f"chat-{part}")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"] == wanted
    (config,) = arguments(program(), "StatefulSet", f"chat-{part}", "engine")[
        "--kv-transfer-config"
    ]
    assert json.loads(config)["kv_connector"] == "NixlConnector"
    assert json.loads(config)["kv_role"] == role


def test_there_is_no_engine_beside_the_parts_and_none_keeps_a_cache() -> None:
    assert not [d for d in program().all("Deployment") if d["metadata"]["name"] == "chat"]
    for part in PARTS:
        spec = pod(program(), "StatefulSet", f"chat-{part}")
        assert [c["name"] for c in spec["containers"]] == ["engine"]
        assert not spec.get("initContainers")


def test_a_kv_cache_is_fetched_at_the_pod_s_address_on_known_ports() -> None:
    engine = container(program(), "StatefulSet", "chat-prefill", "engine")
    environment = {each["name"]: each for each in engine["env"]}
    field = environment["VLLM_NIXL_SIDE_CHANNEL_HOST"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "status.podIP"
    assert environment["VLLM_NIXL_SIDE_CHANNEL_PORT"]["value"] == str(_NIXL)
    assert environment["UCX_TLS"]["value"] == "tcp,cuda_copy"
    (policy,) = (p for p in program().all("NetworkPolicy") if p["metadata"]["name"] == "engine")
    first, last = map(int, environment["UCX_TCP_PORT_RANGE"]["value"].split("-"))
    for way, peers in (("ingress", "from"), ("egress", "to")):
        open_ports = [
            (port["port"], port.get("endPort"))
            for rule in policy["spec"][way]
            for peer in rule.get(peers, [])
            if peer.get("podSelector", {}).get("matchLabels")
            == {"app.kubernetes.io/name": "engine"}
            for port in rule["ports"]
        ]
        assert open_ports == [(_NIXL, None), (first, last)]


def test_rdma_of_one_s_own_is_left_to_ucx() -> None:
    change = json.loads(json.dumps(CHANGE))
    change["pools"][0]["disaggregated"]["link_gbps"] = 200
    engine = container(run(changed_plan("medium", change)), "StatefulSet", "chat-decode", "engine")
    assert "UCX_TLS" not in {each["name"] for each in engine["env"]}


def test_the_router_knows_exactly_the_workers_there_are() -> None:
    flags = arguments(program(), "Deployment", "chat-router", "router")
    assert "--vllm-pd-disaggregation" in flags
    for part, replicas in PARTS.items():
        hosts = [re.fullmatch(r"http://(\S+)\.:8000", url) for url in flags[f"--{part}"]]
        named = {host[1] for host in hosts if host}
        assert named == {
            f"chat-{part}-{n}.chat-{part}.medium-models.svc.cluster.local" for n in range(replicas)
        }
    router = program().one("Deployment", "chat-router")
    assert router["spec"]["replicas"] == 2
    probe = container(program(), "Deployment", "chat-router", "router")["readinessProbe"]
    assert probe["httpGet"]["path"] == ROUTER_HEALTH
    assert program().one("PodDisruptionBudget", "chat-router")


def test_the_router_needs_no_right_on_the_cluster() -> None:
    assert pod(program(), "Deployment", "chat-router")["automountServiceAccountToken"] is False
    assert not [o for o in program().objects if o["kind"] in ("Role", "ClusterRole", "RoleBinding")]


def test_a_long_answer_outlives_the_router_that_it_began_on() -> None:
    engine = pod(program(), "StatefulSet", "chat-decode")["terminationGracePeriodSeconds"]
    router = pod(program(), "Deployment", "chat-router")["terminationGracePeriodSeconds"]
    assert router >= engine >= 180  # engine.shutdown_timeout of the stack


def test_the_gateway_asks_the_router_and_by_what_it_says_of_itself() -> None:
    plan = changed_plan("medium", CHANGE)
    (chat,) = (
        pool
        for pool in gateway_of(plan, Names("medium"), own_certificate=False).pools
        if pool.name == "chat"
    )
    assert chat.discovery and chat.discovery.hostname.startswith("chat-router.medium-gateway.")
    assert chat.health_path == ROUTER_HEALTH and chat.policy == "least_request"


def test_the_ways_that_a_request_and_a_kv_cache_go_are_open_and_no_other() -> None:
    for source, target, port, is_open in (
        ("gateway", "router", _ROUTER, True),
        ("picker", "router", _ROUTER, True),
        ("router", "engine", _ENGINE, True),
        ("router", "engine", _NIXL, False),
        ("engine", "router", _ROUTER, False),
        ("stranger", "engine", _NIXL, False),
        ("anybody", "router", _ROUTER, False),
    ):
        assert reaches(program(), source, target, port) is is_open, (source, target, port)


def test_nothing_of_it_is_there_without_it() -> None:
    names: list[Any] = [o["metadata"]["name"] for o in run(changed_plan("medium", {})).objects]
    assert not [name for name in names if "router" in name or "prefill" in name]
