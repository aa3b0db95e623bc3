"""What is different between two versions of a resource's inputs, and what of it the cloud cannot change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_OF_EVERY_OBJECT = ("metadata.name", "metadata.namespace")
_DATA = {
    "kubernetes:core/v1:ConfigMap": ("data", "binaryData"),
    "kubernetes:core/v1:Secret": ("data", "stringData", "type"),
}


def changed(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Dotted paths of what differs; lists are compared whole."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from changed(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield where


def replacing(type_: str, paths: list[str], *, data_may_change: bool) -> list[str]:
    """Those of the changed paths that make another resource of it."""
    fixed = [*_table().get(type_, ())]
    if type_.startswith("kubernetes:") and "helm.sh" not in type_:
        fixed += _OF_EVERY_OBJECT
        fixed += () if data_may_change else _DATA.get(type_, ())
    return [path for path in paths if any(_within(path, one) for one in fixed)]


def _within(path: str, fixed: str) -> bool:
    """Below it, or above it: then the whole part is new or gone."""
    return f"{path}.".startswith(f"{fixed}.") or f"{fixed}.".startswith(f"{path}.")


@cache
def _table() -> dict[str, list[str]]:
    return yaml.safe_load(Path(__file__).with_name("replaced_on.yaml").read_text())
