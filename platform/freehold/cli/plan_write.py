"""`freehold plan --write`: the placement, pinned in the stack file."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from freehold.config import FreeholdError
from freehold.config.loader import KEY
from freehold.planning.plan import Plan, PoolPlan

Entry = MutableMapping[str, Any]


def pin(path: Path, plan: Plan) -> None:
    """Write instance type, ranks, replicas and quantization of every pool into its stack file."""
    if not any(pool.placement for pool in plan.pools):
        raise FreeholdError(f"stack {plan.stack} runs no GPUs: it has no placement to pin")
    change_pools(path, {pool.name: partial(_pin_pool, pool) for pool in plan.pools})


def change_pools(path: Path, changes: Mapping[str, Callable[[Entry], None]]) -> None:
    """Change pools' entries in a stack file.

    Comments, order and everything else in the file stay; it is replaced in one step, so that no
    reader ever sees half of it. A pool that only an extended stack names gets an entry of its own.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000  # lines stay as they are
    # As the files of this project are written: lists two further in than their key.
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = path.read_text(encoding="utf-8")
    document = yaml.load(text)
    pools = document["config"][KEY].setdefault("pools", [])
    entries = {entry["name"]: entry for entry in pools}
    for name, change in changes.items():
        if name not in entries:
            entries[name] = {"name": name}
            pools.append(entries[name])
        change(entries[name])
    out = io.StringIO()
    yaml.dump(document, out)
    if out.getvalue() != text:
        _replace(path, out.getvalue())


def _pin_pool(pool: PoolPlan, entry: Entry) -> None:
    placement = pool.placement
    assert placement
    pinned = entry.setdefault("placement", {})
    pinned["instance_type"] = placement.instance_type
    pinned["tensor_parallel"] = placement.tensor_parallel
    pinned["pipeline_parallel"] = placement.pipeline_parallel
    if pool.disaggregation:
        apart = entry.setdefault("disaggregated", {})
        for part, replicas in pool.disaggregation.replicas.items():
            apart[f"{part}_replicas"] = replicas
    else:
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
