"""Copies LoRA adapters from an S3 store to folders, for an engine that reads them from there alone.

    python -m freehold.engine.fetch_adapters s3://BUCKET/PREFIX FOLDER [s3://BUCKET/PREFIX FOLDER ...]

Only what vLLM reads of an adapter is taken. Sizes and checksums are compared with the manifest that
the job which fills the store writes; a store that somebody else filled may have none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

MANIFEST = "freehold-manifest.json"
"""As freehold.cluster.model_copy writes it."""
FILES = ("adapter_config.json", "adapter_model.safetensors")


class Refused(Exception):
    """What the store has not got, or has in another form than was copied there."""


def fetch(s3: Any, uri: str, folder: Path) -> None:
    """Fill the folder from `uri`, s3://bucket/prefix; `s3` is boto3's resource. Raises Refused."""
    name, _, prefix = uri.removeprefix("s3://").partition("/")
    bucket = s3.Bucket(name)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    recorded = {}
    if _download(bucket, f"{prefix}/{MANIFEST}", manifest):
        recorded = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    for file in FILES:
        path = folder / file
        if not _download(bucket, f"{prefix}/{file}", path):
            raise Refused(f"{uri} has no {file}: an adapter is {' and '.join(FILES)}")
        if file in recorded and _size_and_hash(path) != recorded[file]:
            path.unlink()
            raise Refused(f"{uri}/{file} is not what was copied there: its checksum differs")
        print(f"{uri}/{file} is in {folder}{'' if file in recorded else ', unchecked'}", flush=True)


def _download(bucket: Any, key: str, path: Path) -> bool:
    """False when there is no such object."""
    try:
        bucket.download_file(key, str(path))
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        return False
    return True


def _size_and_hash(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": found}


def main(argv: list[str]) -> int:
    s3: Any = boto3.resource("s3", region_name=os.environ.get("AWS_REGION"))
    for uri, folder in zip(argv[::2], argv[1::2], strict=True):
        try:
            fetch(s3, uri, Path(folder))
        except Refused as refusal:
            print(refusal, file=sys.stderr)
            return 2
        except (Boto3Error, BotoCoreError, ClientError) as error:
            print(f"{uri} cannot be read: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
