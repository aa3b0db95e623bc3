"""`freehold plan --write`: the placement, pinned in the stack file."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from freehold.config import FreeholdError
from freehold.config.loader import KEY
from freehold.planning.plan import Plan, PoolPlan


def pin(path: Path, plan: Plan) -> None:
    """Write instance type, ranks, replicas and quantization of every pool into its stack file.

    Comments, order and everything else in the file stay; it is replaced in one step, so that no
    reader ever sees half of it. A pool that only an extended stack names gets an entry of its own.
    """
    if not any(pool.placement for pool in plan.pools):
        raise FreeholdError(f"stack {plan.stack} is local: it has no placement to pin")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000  # lines stay as they are
    # As the files of this project are written: lists two further in than their key.
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = path.read_text(encoding="utf-8")
    document = yaml.load(text)
    pools = document["config"][KEY].setdefault("pools", [])
    entries = {entry["name"]: entry for entry in pools}
    for pool in plan.pools:
        if pool.name not in entries:
            entries[pool.name] = {"name": pool.name}
            pools.append(entries[pool.name])
        _pin_pool(entries[pool.name], pool)
    out = io.StringIO()
    yaml.dump(document, out)
    if out.getvalue() != text:
        _replace(path, out.getvalue())


def _pin_pool(entry: MutableMapping[str, Any], pool: PoolPlan) -> None:
    placement = pool.placement
    assert placement
    pinned = entry.setdefault("placement", {})
    pinned["instance_type"] = placement.instance_type
    pinned["tensor_parallel"] = placement.tensor_parallel
    pinned["pipeline_parallel"] = placement.pipeline_parallel
    pinned["replicas"] = pool.replicas
    # A repository in `model` says its format itself.
    if "quantization" not in entry and pool.settings.model != entry.get("model"):
        entry["quantization"] = placement.quantization


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
