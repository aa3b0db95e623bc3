"""LoRA adapters of a bucket: copied by what runs before the engine, checked, and where the engine looks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from cluster.test_model_copy import FakeHub
from moto.server import ThreadedMotoServer
from ports import free_ports

from freehold.cluster import model_copy
from freehold.engine import fetch_adapters

from .pod_security import problems
from .programs import changed_plan, container, pod, run
from .recorded import Program
from .schemas import VERSIONS, check
from .test_model_pool import amount

PARTS = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": bytes(range(256)) * 4096}
LORA = [
    {"name": "tuned", "path": "org/lora"},
    {"name": "again", "path": "org/lora"},
    {"name": "own", "path": "/image/own"},
]


@cache
def program(stack: str = "medium", source: str | None = None) -> Program:
    change: dict[str, Any] = {"pools": [{"name": "chat", "engine": {"lora": LORA}}]}
    if source:
        change["target"] = {"model_source": source}
    return run(changed_plan(stack, change))


def test_the_engine_looks_where_the_copy_goes() -> None:
    copy = container(program(), "Deployment", "chat", "adapters")
    assert copy["args"] == ["s3://models-1234/org/lora", "/adapters/org/lora"]
    engine = container(program(), "Deployment", "chat", "engine")
    first = engine["args"].index("--lora-modules") + 1
    assert engine["args"][first : first + 3] == [
        "tuned=/adapters/org/lora",
        "again=/adapters/org/lora",
        "own=/image/own",
    ]
    mounts = [
        {item["mountPath"]: item for item in each["volumeMounts"]}["/adapters"]
        for each in (copy, engine)
    ]
    assert mounts[0]["name"] == mounts[1]["name"] == "adapters"
    assert "readOnly" not in mounts[0] and mounts[1]["readOnly"] is True


def test_the_copy_comes_first_and_takes_nothing_from_the_plan() -> None:
    spec = pod(program(), "Deployment", "chat")
    assert [item["name"] for item in spec["initContainers"]] == ["adapters", "cache"]
    copy, engine = (container(program(), "Deployment", "chat", n) for n in ("adapters", "engine"))
    assert copy["image"] == engine["image"] and "restartPolicy" not in copy
    # A pod asks for the most of what runs at once: this is over before the engine begins.
    for resource in ("cpu", "memory"):
        asked = (each["resources"]["requests"][resource] for each in (copy, engine))
        assert amount(next(asked)) <= amount(next(asked))
    assert not problems(spec)
    check(program().one("Deployment", "chat"), VERSIONS[1])


def test_the_copy_reads_the_store_as_the_engine_does() -> None:
    def given(which: Program) -> tuple[Any, Any]:
        names = ("adapters", "engine")
        copy, engine = (container(which, "Deployment", "chat", name) for name in names)
        regions = [
            [item for item in each["env"] if item["name"] == "AWS_REGION"]
            for each in (copy, engine)
        ]
        assert regions[0] == regions[1]
        assert copy.get("envFrom") == engine.get("envFrom")
        return regions[0], copy.get("envFrom")

    assert given(program()) == ([{"name": "AWS_REGION", "value": "us-east-2"}], None)
    secret = [{"secretRef": {"name": "model-store"}}]
    assert given(program("onprem", "s3://weights")) == ([], secret)


@pytest.mark.parametrize("source", ["pvc://weights/all", "hub"])
def test_nothing_is_copied_where_the_engine_sees_folders(source: str) -> None:
    spec = pod(program("onprem", source), "Deployment", "chat")
    assert "adapters" not in {item["name"] for item in spec.get("initContainers", [])}
    assert "adapters" not in {item["name"] for item in spec["volumes"]}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    (port,) = free_ports(1)
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    s3: Any = boto3.resource("s3", region_name="us-east-1")
    made = s3.create_bucket(Bucket="models-1234")
    yield made
    made.objects.all().delete()
    made.delete()


def fetch(folder: Path) -> subprocess.CompletedProcess[str]:
    """The container's own command, with the volume's folder somewhere else."""
    copy = container(program(), "Deployment", "chat", "adapters")
    command = [sys.executable, *copy["command"][1:], *copy["args"]]
    return subprocess.run(
        [word.replace("/adapters/", f"{folder}/") for word in command],
        env={
            **os.environ,
            **{i["name"]: i["value"] for i in copy["env"]},
            "AWS_REGION": "us-east-1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copied(bucket: Any) -> None:
    hub = FakeHub(PARTS | {"README.md": b"about"})
    model_copy.copy(hub, bucket, "org/lora", "main", "org/lora", allow_code=False)


def test_what_the_import_stored_arrives_checked(bucket: Any, tmp_path: Path) -> None:
    copied(bucket)
    done = fetch(tmp_path)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "org/lora" / name).read_bytes() for name in PARTS} == PARTS
    assert "unchecked" not in done.stdout
    assert fetch(tmp_path).returncode == 0  # a container that begins again finds its files there


def test_a_file_that_was_changed_in_the_store_is_refused(bucket: Any, tmp_path: Path) -> None:
    copied(bucket)
    bucket.put_object(Key="org/lora/adapter_model.safetensors", Body=b"other")
    done = fetch(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "adapter_model.safetensors is not what was copied there" in done.stderr
    assert not (tmp_path / "org/lora/adapter_model.safetensors").exists()


def test_a_store_that_somebody_else_filled_needs_no_manifest(bucket: Any, tmp_path: Path) -> None:
    for name, data in PARTS.items():
        bucket.put_object(Key=f"org/lora/{name}", Body=data)
    done = fetch(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unchecked") == len(PARTS)


def test_what_is_not_there_is_named(bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Key="org/lora/adapter_config.json", Body=b"{}")
    done = fetch(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "s3://models-1234/org/lora has no adapter_model.safetensors" in done.stderr


def test_a_store_that_does_not_answer_is_one_line(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = fetch(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "s3://models-1234/org/lora cannot be read" in done.stderr


def test_the_manifest_is_the_import_s() -> None:
    assert fetch_adapters.MANIFEST == model_copy.MANIFEST
