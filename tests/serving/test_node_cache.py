"""One cache a node: what it is as large as, who reaches it, and what it may that others may not."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from freehold.monitoring.monitors import pod_monitors
from freehold.policy.kubernetes_rules import KUBERNETES_RULES
from freehold.policy.rule import ResourceRule
from freehold.serving.names import Names

from .pod_security import problems
from .programs import changed_plan, container, pod, program_of, run
from .recorded import Program
from .schemas import VERSIONS, check
from .test_network import reaches

TWO = {"cache": {"placement": "node"}, "budget": None}


@cache
def program() -> Program:
    return run(changed_plan("medium", TWO))


@cache
def daemons() -> dict[str, Any]:
    (found,) = program().all("DaemonSet")
    return found


def transfer(made: Program) -> dict[str, Any]:
    arguments = container(made, "Deployment", "chat", "engine")["args"]
    return json.loads(arguments[arguments.index("--kv-transfer-config") + 1])


def test_it_takes_the_place_of_the_sidecars() -> None:
    spec = pod(program(), "Deployment", "chat")
    assert not spec.get("initContainers")
    assert {each["name"] for each in spec["volumes"]} == {"home", "tmp", "shm"}
    assert not [c for c in spec["containers"] if c["name"] == "cache"]


def test_it_runs_where_the_engines_do_and_is_as_large_as_their_sidecars() -> None:
    plan = changed_plan("medium", TWO)
    chat = next(pool for pool in plan.pools if pool.name == "chat")
    assert chat.placement and plan.cache
    spec = daemons()["spec"]["template"]["spec"]
    engines = pod(program(), "Deployment", "chat")
    assert spec["nodeSelector"] == engines["nodeSelector"]
    assert spec["tolerations"] == engines["tolerations"]
    (server,) = spec["containers"]
    arguments = server["args"]
    per_node = chat.placement.replicas_per_node
    assert (
        float(arguments[arguments.index("--l1-size-gb") + 1])
        == per_node * plan.cache.host_memory_gib
    )
    # All of a node together ask for no more than with sidecars.
    beside = pod(program_of("medium"), "Deployment", "chat")
    together = sum(memory(c) for c in [*beside["containers"], *beside["initContainers"]]) * per_node
    asked = memory(server) + per_node * memory(engines["containers"][0])
    assert asked <= together


def memory(one: dict[str, Any]) -> int:
    """MiB."""
    return int(one["resources"]["requests"]["memory"].removesuffix("Mi"))


def test_engines_ask_the_server_of_their_own_node() -> None:
    extra = transfer(program())["kv_connector_extra_config"]
    service = program().one("Service", "cache")["spec"]
    assert extra["lmcache.mp.host"] == f"tcp://{Names('medium').node_cache_host()}"
    assert extra["lmcache.mp.isolated_ipc"] is True
    assert service["internalTrafficPolicy"] == "Local"
    assert service["ports"][0]["port"] == extra["lmcache.mp.port"]
    labels = daemons()["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    (server,) = daemons()["spec"]["template"]["spec"]["containers"]
    assert server["args"][server["args"].index("--host") + 1] == "0.0.0.0"
    assert transfer(program_of("medium"))["kv_connector_extra_config"]["lmcache.mp.host"] == (
        "tcp://127.0.0.1"
    )


def test_the_secret_of_redis_is_where_it_is_read() -> None:
    where = {
        item["metadata"]["namespace"]
        for item in program().all("Secret")
        if item["metadata"]["name"] == "redis"
    }
    assert where == {"medium-cache", "medium-node-cache"}


def test_engines_reach_it_and_it_alone_reaches_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    from . import test_network

    monkeypatch.setitem(test_network.APPS, "cache", "node-cache")
    (port,) = program().one("Service", "cache")["spec"]["ports"]
    made = program()
    assert reaches(made, "engine", "cache", port["port"])
    assert reaches(made, "cache", "redis", 6379)
    assert reaches(made, "prometheus", "cache", 9095)
    for source in ("gateway", "picker", "stranger", "anybody", "prometheus"):
        assert not reaches(made, source, "cache", port["port"])
    assert not reaches(made, "engine", "redis", 6379)
    assert not reaches(made, "cache", "engine", 8000)


def test_it_alone_is_privileged_and_in_a_namespace_of_its_own() -> None:
    levels = {
        item["metadata"]["name"]: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for item in program().all("Namespace")
    }
    assert levels["medium-node-cache"] == "privileged" and levels["medium-models"] == "baseline"
    used = [i for i in program().objects if i["metadata"].get("namespace") == "medium-node-cache"]
    assert {item["kind"] for item in used} == {
        *("DaemonSet", "NetworkPolicy", "Secret", "Service", "ServiceAccount")
    }
    found = problems(daemons()["spec"]["template"]["spec"])
    assert set(found) == {"cache: privileged", "cache: allowPrivilegeEscalation"}
    assert not problems(pod(program(), "Deployment", "chat"))


def test_it_says_why_and_the_rules_want_to_hear_it() -> None:
    (rule,) = (rule for rule in KUBERNETES_RULES if rule.name == "pod-privileges")
    assert isinstance(rule, ResourceRule)
    assert not [*rule.check(daemons())]
    silent = {**daemons(), "metadata": {**daemons()["metadata"], "annotations": {}}}
    assert [*rule.check(silent)]


def test_every_object_of_it_passes_the_schemas() -> None:
    for item in program().objects:
        check(item, VERSIONS[1])


def test_prometheus_finds_it() -> None:
    monitors = pod_monitors("a", "b", cache=True, node_cache="medium-node-cache")
    (monitor,) = (one for one in monitors if one.job == "cache")
    template = daemons()["spec"]["template"]
    assert monitor.namespace == daemons()["metadata"]["namespace"]
    assert template["metadata"]["labels"][monitor.label] == monitor.app
    ports = template["spec"]["containers"][0]["ports"]
    assert monitor.port in {port["name"] for port in ports}
