"""Who reaches whom, by a small reading of the network policies themselves."""

from __future__ import annotations

from typing import Any

import pytest

from .programs import program_of
from .recorded import Program

_ENGINE, _CACHE_METRICS, _REDIS = 8000, 9095, 6379
_DOOR, _STATS, _PICKER, _PICKER_HTTP = 8080, 9902, 9002, 9003
APPS = {
    "engine": "models",
    "redis": "cache",
    "gateway": "gateway",
    "picker": "gateway",
    "router": "gateway",
    "stranger": "models",
    "prometheus": "monitoring",
    "anybody": "elsewhere",
}
# Every way that is open; each other of all apps and ports is closed.
OPEN = {
    ("gateway", "engine", _ENGINE),
    ("picker", "engine", _ENGINE),
    ("prometheus", "engine", _ENGINE),
    ("prometheus", "engine", _CACHE_METRICS),
    ("engine", "redis", _REDIS),
    ("gateway", "picker", _PICKER),
    ("prometheus", "picker", _PICKER_HTTP),
    ("prometheus", "gateway", _STATS),
}
PORTS = (_ENGINE, _CACHE_METRICS, _REDIS, _DOOR, _STATS, _PICKER, _PICKER_HTTP)


def pod(app: str) -> tuple[str, dict[str, str]]:
    """Namespace and labels."""
    return f"medium-{APPS[app]}", {"app.kubernetes.io/name": app}


def reaches(program: Program, source: str, target: str, port: int) -> bool:
    return _allowed(program, source, target, port, "Egress") and _allowed(
        program, target, source, port, "Ingress"
    )


def _allowed(program: Program, subject: str, other: str, port: int, way: str) -> bool:
    namespace, labels = pod(subject)
    applying = [
        policy["spec"]
        for policy in program.all("NetworkPolicy")
        if policy["metadata"]["namespace"] == namespace
        and _matches(policy["spec"]["podSelector"], labels)
        and way in policy["spec"]["policyTypes"]
    ]
    if not applying:
        return True
    key, peers = ("egress", "to") if way == "Egress" else ("ingress", "from")
    return any(
        _port_in(rule, port) and any(_peer(peer, other) for peer in rule.get(peers) or [{}])
        for spec in applying
        for rule in spec.get(key) or []
    )


def _port_in(rule: dict[str, Any], port: int) -> bool:
    return not rule.get("ports") or any(each["port"] == port for each in rule["ports"])


def _peer(peer: dict[str, Any], app: str) -> bool:
    if "ipBlock" in peer:
        return False  # pods of this cluster are told by labels
    namespace, labels = pod(app)
    return _matches(
        peer.get("namespaceSelector", {}), {"kubernetes.io/metadata.name": namespace}
    ) and _matches(peer.get("podSelector", {}), labels)


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def test_exactly_these_ways_are_open() -> None:
    program = program_of("medium")
    found = {
        (source, target, port)
        for source in APPS
        for target in APPS
        for port in PORTS
        if source != target
        and APPS[target] in ("models", "cache", "gateway")
        and reaches(program, source, target, port)
    }
    assert found == OPEN


def test_clients_reach_the_door_from_the_named_networks_alone() -> None:
    (policy,) = (
        item
        for item in program_of("medium").all("NetworkPolicy")
        if item["metadata"]["name"] == "gateway"
    )
    (door,) = (rule for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == _DOOR)
    assert door["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]


@pytest.mark.parametrize("namespace", ["medium-models", "medium-gateway", "medium-cache"])
def test_all_is_denied_but_names(namespace: str) -> None:
    (policy,) = (
        item
        for item in program_of("medium").all("NetworkPolicy")
        if item["metadata"]["name"] == "default" and item["metadata"]["namespace"] == namespace
    )
    spec = policy["spec"]
    assert spec["podSelector"] == {} and spec["policyTypes"] == ["Ingress", "Egress"]
    assert not spec.get("ingress")
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53}


def test_engines_reach_outside_only_what_the_target_names() -> None:
    (policy,) = (
        item
        for item in program_of("medium").all("NetworkPolicy")
        if item["metadata"]["name"] == "engine"
    )
    outside = [
        (peer["ipBlock"]["cidr"], rule["ports"][0]["port"])
        for rule in policy["spec"]["egress"]
        for peer in rule.get("to", [{"ipBlock": {"cidr": "anywhere"}}])
        if "ipBlock" in peer
    ]
    assert outside == [("10.40.0.0/16", 443), ("169.254.170.23/32", 80)]


@pytest.mark.parametrize("stack", ["small", "medium", "large", "onprem"])
def test_namespaces_hold_pods_to_a_level(stack: str) -> None:
    levels = {
        item["metadata"]["name"]: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for item in program_of(stack).all("Namespace")
    }
    assert levels.pop(f"{stack}-models") == "baseline"
    assert set(levels.values()) == {"restricted"}
    used = {
        item["metadata"]["namespace"]
        for item in program_of(stack).objects
        if item["kind"] != "Namespace"
    }
    assert used == levels.keys() | {f"{stack}-models"}
