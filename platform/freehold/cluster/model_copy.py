"""Copies one model from the hub to the bucket. Runs inside the cluster as one file of its own.

Only weights that hold no code are taken (safetensors), every file is compared with the hub's
checksum while it streams through, and the manifest is written last: an engine that finds it finds
a whole model. A second run sees the manifest and does nothing.

    python model_copy.py ORG/NAME REVISION BUCKET PREFIX [--allow-code]

Needs `huggingface_hub` and `boto3`; reads HF_TOKEN for gated models.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

MANIFEST = "freehold-manifest.json"
_DATA = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "LICENSE*")
_CODE = ("*.py",)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_READ_BYTES = 8 * 2**20


class Refused(Exception):
    """What must not be copied, and why."""


def wanted_files(names: list[str], *, allow_code: bool) -> list[str]:
    """Names to copy. Raises Refused for a model whose weights can run code when loaded."""
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        pickles = [name for name in names if any(fnmatch(name, p) for p in _PICKLES)]
        raise Refused(
            "no safetensors: "
            + (
                f"its weights are pickles ({pickles[0]}), which run code"
                if pickles
                else "no weights"
            )
        )
    patterns = _DATA + (_CODE if allow_code else ())
    # Folders below the top hold other formats of the same weights (original/, onnx/).
    return [name for name in names if "/" not in name and any(fnmatch(name, p) for p in patterns)]


def refuse_code(config: dict[str, Any], *, allow_code: bool) -> None:
    """A config that names Python files of the repository would have them run."""
    if "auto_map" in config and not allow_code:
        raise Refused(
            "its config.json names code of the repository (auto_map): read that code, then say "
            "engine.trust_remote_code: true for the pool"
        )


class Checked:
    """A stream that is hashed as it is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""
        self.sha256, self.size = hashlib.sha256(), 0

    def read(self, wanted: int = -1) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while wanted < 0 or have < wanted:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self.sha256.update(chunk)
            self.size += len(chunk)
            parts.append(chunk)
            have += len(chunk)
        everything = b"".join(parts)
        cut = len(everything) if wanted < 0 else wanted
        self._rest = everything[cut:]
        return everything[:cut]


def copy(hub: Any, bucket: Any, repo: str, revision: str, prefix: str, *, allow_code: bool) -> str:
    """Copy what is not there yet; the commit that the revision meant.

    `hub` has `commit(repo, revision)`, `files(repo, commit)` (name -> size and sha256 or None) and
    `stream(repo, commit, name)`; `bucket` is a boto3 Bucket.
    """
    commit = hub.commit(repo, revision)
    if _commit_there(bucket, prefix) == commit:
        return commit
    files = hub.files(repo, commit)
    names = wanted_files(sorted(files), allow_code=allow_code)
    if "config.json" in names:
        raw = b"".join(hub.stream(repo, commit, "config.json"))
        refuse_code(json.loads(raw), allow_code=allow_code)
    copied = {}
    for name in names:
        stream = Checked(iter(hub.stream(repo, commit, name)))
        bucket.upload_fileobj(stream, f"{prefix}/{name}")
        size, expected = files[name]
        found = stream.sha256.hexdigest()
        if stream.size != size or (expected and found != expected):
            bucket.Object(f"{prefix}/{name}").delete()
            raise Refused(f"{name}: not what the hub has ({stream.size} of {size} bytes, {found})")
        copied[name] = {"bytes": size, "sha256": found}
        print(f"copied {name} ({size} bytes)", flush=True)
    manifest = {"repo": repo, "commit": commit, "files": copied}
    bucket.put_object(Key=f"{prefix}/{MANIFEST}", Body=json.dumps(manifest, indent=2).encode())
    return commit


def _commit_there(bucket: Any, prefix: str) -> str | None:
    for found in bucket.objects.filter(Prefix=f"{prefix}/{MANIFEST}"):
        return json.loads(found.get()["Body"].read()).get("commit")
    return None


class Hub:
    """The Hugging Face hub, through its own client."""

    def __init__(self) -> None:
        from huggingface_hub import HfApi

        self._api = HfApi()

    def commit(self, repo: str, revision: str) -> str:
        return str(self._api.model_info(repo, revision=revision).sha)

    def files(self, repo: str, commit: str) -> dict[str, tuple[int, str | None]]:
        info = self._api.model_info(repo, revision=commit, files_metadata=True)
        return {
            one.rfilename: (one.size or 0, one.lfs.sha256 if one.lfs else None)
            for one in info.siblings or []
        }

    def stream(self, repo: str, commit: str, name: str) -> Iterator[bytes]:
        import httpx
        from huggingface_hub import get_token, hf_hub_url

        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = hf_hub_url(repo, name, revision=commit)
        with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=60) as got:
            got.raise_for_status()
            yield from got.iter_bytes(_READ_BYTES)


def main(argv: list[str]) -> int:
    import boto3

    allow_code = "--allow-code" in argv
    repo, revision, bucket, prefix = [word for word in argv if not word.startswith("--")]
    try:
        s3: Any = boto3.resource("s3")
        store = s3.Bucket(bucket)
        commit = copy(Hub(), store, repo, revision, prefix, allow_code=allow_code)
    except Refused as refusal:
        print(f"{repo}: {refusal}", file=sys.stderr)
        return 2
    print(f"{repo} at {commit} is in s3://{bucket}/{prefix}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
