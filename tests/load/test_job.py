"""The load test's Kubernetes job: what the program records, and that both sides read the same test."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from freehold.load.job import LoadTestJob, LoadTestJobArgs
from freehold.load.stages import Stage
from freehold.load.test import LoadTest
from freehold.load.verdict import Promise

from ..serving.pod_security import problems
from ..serving.schemas import VERSIONS, check


class _Recorded(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.resources: dict[str, pulumi.runtime.MockResourceArgs] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        self.resources[f"{args.typ}::{args.name}"] = args
        return f"{args.name}-id", args.inputs

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return {}, None


@pytest.fixture(scope="module")
def recorded() -> dict[str, pulumi.runtime.MockResourceArgs]:
    test = LoadTest(
        base_url="http://gateway.freehold.svc:8080",
        model="chat",
        out=Path("x"),
        corpora=Path("x"),
        stages=(Stage(name="steady", seconds=60, concurrency=64),),
        salt="fixed",
    )
    mocks = _Recorded()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(mocks, preview=False)
    args = LoadTestJobArgs(
        namespace="load",
        image="registry.example/freehold:1",
        test=test,
        tier="medium",
        promise=Promise(usd_per_hour=3.0),
        workers=4,
        key_secret=("gateway-key", "key"),
        node_selector={"freehold/role": "system"},
    )

    @pulumi.runtime.test
    def program() -> None:
        LoadTestJob("spike", args)

    program()
    return mocks.resources


def _job(recorded: dict[str, Any], role: str) -> dict[str, Any]:
    return recorded[f"kubernetes:batch/v1:Job::spike-{role}"].inputs


def test_one_component_holds_everything(recorded: dict[str, Any]) -> None:
    assert set(recorded) == {
        "freehold:load:LoadTestJob::spike",
        "kubernetes:core/v1:ConfigMap::spike-test",
        "kubernetes:core/v1:Service::spike-master",
        "kubernetes:batch/v1:Job::spike-master",
        "kubernetes:batch/v1:Job::spike-worker",
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_passes_kubernetes_s_strict_schema(
    recorded: dict[str, Any], version: str
) -> None:
    seen = []
    for name, resource in recorded.items():
        kind = name.partition("::")[0]
        if not kind.startswith("kubernetes:"):
            continue
        api_version, kind = kind.removeprefix("kubernetes:").rsplit(":", 1)
        item = {"apiVersion": api_version.removeprefix("core/"), "kind": kind}
        check(item | {k: v for k, v in resource.inputs.items() if k not in item}, version)
        seen.append(kind)
    assert sorted(seen) == ["ConfigMap", "Job", "Job", "Service"]


def test_master_and_workers_read_the_same_test_and_find_each_other(
    recorded: dict[str, Any],
) -> None:
    config = recorded["kubernetes:core/v1:ConfigMap::spike-test"].inputs
    test = LoadTest.model_validate_json(config["data"]["test.json"])
    assert (test.processes, test.salt, str(test.out)) == (4, "fixed", "/records")
    assert Promise.from_json(json.loads(config["data"]["promise.json"])).usd_per_hour == 3.0
    service = recorded["kubernetes:core/v1:Service::spike-master"].inputs
    worker, master = _job(recorded, "worker"), _job(recorded, "master")
    command = worker["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[command.index("--master-host") + 1] == service["metadata"]["name"]
    assert service["spec"]["selector"] == master["spec"]["template"]["metadata"]["labels"]
    assert worker["spec"]["parallelism"] == worker["spec"]["completions"] == 4
    for job in (worker, master):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert "loadtests/tiers/medium.py" in " ".join(container["command"])
        assert {e["name"] for e in container["env"]} == {"FREEHOLD_LOAD_TEST", "FREEHOLD_API_KEY"}
        assert job["spec"]["backoffLimit"] == 0


def test_pods_keep_the_restricted_rules_and_the_key_is_a_reference(
    recorded: dict[str, Any],
) -> None:
    for role in ("master", "worker"):
        pod = _job(recorded, role)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert not problems(pod)
        assert pod["automountServiceAccountToken"] is False
        secret = next(e for e in container["env"] if e["name"] == "FREEHOLD_API_KEY")
        assert secret["valueFrom"]["secretKeyRef"] == {"name": "gateway-key", "key": "key"}
        assert container["resources"]["requests"] and pod["nodeSelector"]
