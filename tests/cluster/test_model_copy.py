"""The copy into the model store: whole, checked, without code; again is nothing (moto's S3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from freehold.cluster.model_copy import MANIFEST, Refused, copy

WEIGHTS = bytes(range(256)) * 65536  # 16 MiB: more than one part of a multipart upload


class FakeHub:
    def __init__(self, files: dict[str, bytes], wrong: str | None = None) -> None:
        self._files, self._wrong, self.streamed = files, wrong, 0

    def commit(self, repo: str, revision: str) -> str:
        return "c0ffee"

    def files(self, repo: str, commit: str) -> dict[str, tuple[int, str | None]]:
        return {
            name: (len(data), hashlib.sha256(b"other" if name == self._wrong else data).hexdigest())
            for name, data in self._files.items()
        }

    def stream(self, repo: str, commit: str, name: str) -> Iterator[bytes]:
        self.streamed += 1
        data = self._files[name]
        yield from (data[at : at + 100_001] for at in range(0, len(data), 100_001))


FILES = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"[]",
    "modeling_x.py": b"import os",
    "pytorch_model.bin": b"pickle",
    "original/consolidated.safetensors": b"again",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        s3: Any = boto3.resource("s3", region_name="us-east-1")
        yield s3.create_bucket(Bucket="models")


def keys(bucket: Any) -> set[str]:
    return {found.key for found in bucket.objects.all()}


def run(hub: FakeHub, bucket: Any, *, allow_code: bool = False) -> str:
    return copy(hub, bucket, "org/name", "main", "org/name/main", allow_code=allow_code)


def test_a_model_arrives_whole_and_without_code(bucket: Any) -> None:
    assert run(FakeHub(FILES), bucket) == "c0ffee"
    names = {"config.json", "model.safetensors", "tokenizer.json", MANIFEST}
    assert keys(bucket) == {f"org/name/main/{name}" for name in names}
    stored = bucket.Object("org/name/main/model.safetensors").get()["Body"].read()
    assert stored == WEIGHTS
    manifest = json.loads(bucket.Object(f"org/name/main/{MANIFEST}").get()["Body"].read())
    assert manifest["commit"] == "c0ffee"
    assert manifest["files"]["model.safetensors"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_second_run_copies_nothing(bucket: Any) -> None:
    hub = FakeHub(FILES)
    run(hub, bucket)
    streamed = hub.streamed
    run(hub, bucket)
    assert hub.streamed == streamed


def test_a_file_that_is_not_the_hub_s_is_taken_away_again(bucket: Any) -> None:
    with pytest.raises(Refused, match=r"model.safetensors: not what the hub has"):
        run(FakeHub(FILES, wrong="model.safetensors"), bucket)
    assert keys(bucket) == {"org/name/main/config.json"}


def test_pickles_are_refused(bucket: Any) -> None:
    with pytest.raises(Refused, match=r"pickles \(pytorch_model.bin\)"):
        run(FakeHub({"pytorch_model.bin": b"x", "config.json": b"{}"}), bucket)
    assert keys(bucket) == set()


def test_code_is_refused_unless_it_was_named(bucket: Any) -> None:
    files = FILES | {"config.json": b'{"auto_map": {"AutoModel": "modeling_x.X"}}'}
    with pytest.raises(Refused, match="trust_remote_code"):
        run(FakeHub(files), bucket)
    assert keys(bucket) == set()
    run(FakeHub(files), bucket, allow_code=True)
    assert "org/name/main/modeling_x.py" in keys(bucket)
