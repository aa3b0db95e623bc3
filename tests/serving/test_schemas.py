"""Every object of every stack passes strict schemas, with cloud values known and unknown."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import jsonschema
import pytest

from freehold.catalog.release import load_release
from freehold.monitoring.monitors import pod_monitors
from freehold.recording.program import record_program

from .programs import ROOT, STACKS, changed_plan, program_of, run
from .recorded import Program, plain
from .schemas import VERSIONS, check

HOURS = {"hours": {"days": ["mon", "fri"], "start": "08:00", "stop": "18:30"}}
TWO_REPLICAS = {"pools": [{"name": "chat", "placement": {"replicas": 2}}], "budget": None}


@cache
def variants() -> dict[str, Program]:
    return {
        "hours": run(changed_plan("small", HOURS)),
        "scaled": run(changed_plan("medium", TWO_REPLICAS)),
        "own certificate": run(
            changed_plan("small", {"gateway": {"tls": {"secret": "door"}}}), terminates_tls=False
        ),
        "ingress": run(
            changed_plan(
                "onprem",
                {
                    "target": {"ingress_class": "nginx", "model_source": "pvc://models/all"},
                    "gateway": {"tls": {"secret": "door"}},
                },
            )
        ),
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stack", STACKS)
def test_every_object_of_every_stack(stack: str, version: str) -> None:
    for item in program_of(stack).objects:
        check(item, version)


def test_objects_that_only_some_stacks_have() -> None:
    found: set[str] = set()
    for program in variants().values():
        for item in program.objects:
            check(item, VERSIONS[1])
            found.add(item["kind"])
    assert {"ScaledObject", "Ingress"} <= found


@pytest.mark.parametrize("stack", STACKS)
def test_the_same_objects_while_nothing_is_known(stack: str) -> None:
    def named(program: Program) -> set[tuple[str, str, str]]:
        return {
            (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
            for item in program.objects
        }

    assert named(program_of(stack, preview=True)) == named(program_of(stack))


@pytest.mark.parametrize("stack", STACKS)
def test_names_are_unique(stack: str) -> None:
    seen = [
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])
        for item in program_of(stack).objects
    ]
    assert len(seen) == len(set(seen))


def test_the_schemas_refuse_a_slip() -> None:
    deployment = copy.deepcopy(program_of("small").one("Deployment", "chat"))
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(jsonschema.ValidationError):
        check(deployment, VERSIONS[0])
    scaled: dict[str, Any] = copy.deepcopy(variants()["scaled"].all("ScaledObject")[0])
    scaled["spec"]["maxReplicas"] = 3
    with pytest.raises(jsonschema.ValidationError):
        check(scaled, VERSIONS[0])


def test_the_schemas_of_monitoring_refuse_a_slip() -> None:
    monitor = pod_monitors("models", "gateway", cache=True)[0].to_kubernetes("monitoring")
    rule = _prometheus_rule([{"alert": "PoolDown", "expr": "up == 0", "for": "5m"}])
    for item in (monitor, rule):
        check(item, VERSIONS[0])
    monitor["spec"]["podMetricsEndpoints"][0]["metricsPath"] = "/metrics"
    with pytest.raises(jsonschema.ValidationError):
        check(monitor, VERSIONS[0])
    for slip in ({"record": "a:b", "expr": "up", "for": "5m"}, {"alert": "A", "expr": 0}):
        with pytest.raises(jsonschema.ValidationError):
            check(_prometheus_rule([slip]), VERSIONS[0])


def _prometheus_rule(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "one", "namespace": "monitoring"},
        "spec": {"groups": [{"name": "one", "rules": rules}]},
    }


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_has_a_component_as_parent(stack: str) -> None:
    kinds = {seen.type for seen in program_of(stack).seen if not seen.custom}
    assert {"freehold:serving:Serving", "freehold:serving:ModelPool"} <= kinds


@pytest.mark.parametrize("stack", STACKS)
def test_everything_that_the_whole_program_renders(stack: str) -> None:
    """As `freehold render` writes it, for the Kubernetes that the release pins."""
    recording = record_program(ROOT, stack)
    objects = [
        dict(resource.inputs)
        for resource in recording.resources
        if resource.type.startswith("kubernetes:") and "kind" in resource.inputs
    ]
    assert {item["kind"] for item in objects} >= {
        *("Deployment", "NetworkPolicy", "Secret", "PodMonitor", "PrometheusRule")
    }
    for item in objects:
        check(plain(item), load_release().kubernetes)
