"""Chart values, read so that no key goes missing: each is taken over, or ends in a note."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from freehold.config import FreeholdError
from freehold.config.errors import nearest

_DATA = Path(__file__).with_name("init_chart.yaml")
_MODELS = "servingEngineSpec.modelSpec[]"

What = Literal["kept", "corrected", "added", "dropped"]


@dataclass(frozen=True)
class Note:
    """What became of one key of the values; `path` is where it was, or where a new one is."""

    path: str
    what: What
    text: str


@cache
def chart_name() -> str:
    return _data()["chart"]


@cache
def dropped_keys() -> Mapping[str, str]:
    """Key path of the chart, list items as `[]`, -> why it is not carried over."""
    return {_full(key): group["why"] for group in _data()["dropped"] for key in group["keys"]}


@cache
def carried_keys() -> Mapping[str, str]:
    """Key path of the chart -> the key of the stack file that it becomes."""
    return {_full(key): becomes for key, becomes in _data()["carried"].items()}


def _full(key: str) -> str:
    return f"{_MODELS}.{key[2:]}" if key.startswith("m.") else key


@cache
def _data() -> Any:
    return yaml.safe_load(_DATA.read_text(encoding="utf-8"))


def read_values(path: Path) -> dict[str, Any]:
    """The values file as a tree; FreeholdError when it is none."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FreeholdError(f"--from-helm {path}: cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise FreeholdError(f"--from-helm {path}: holds no map of chart values")
    return tree


class Values:
    """The tree, and which of its keys were taken."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree
        self._taken: set[str] = set()
        self.notes: list[Note] = []

    def look(self, path: str) -> Any:
        """The value at `a.b[0].c`, None where there is none."""
        value: Any = self._tree
        for part in path.replace("[", ".[").split("."):
            if part.startswith("["):
                value = value[int(part[1:-1])] if isinstance(value, list) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def take(self, path: str) -> Any:
        """The same; from now on the key is accounted for."""
        self._taken.add(path)
        return self.look(path)

    def keep(self, path: str) -> Any:
        """Take a value that goes over as it is, and say what it becomes."""
        value = self.take(path)
        if value is not None:
            self.note(path, "kept", carried_keys()[_shape(path)])
        return value

    def number(self, path: str) -> int | None:
        """A whole number above 0, also where it is written as text; anything else is dropped."""
        value = self.take(path)
        if value is None:
            return None
        if not isinstance(value, bool) and str(value).isdigit() and int(value) > 0:
            return int(value)
        self.note(path, "dropped", f"{value!r} is no whole number above 0")
        return None

    def amount(self, path: str) -> float | None:
        """The same for any number above 0."""
        value = self.take(path)
        if value is None:
            return None
        with suppress(TypeError, ValueError):
            if not isinstance(value, bool) and 0 < float(value) < 1e9:
                return float(value)
        self.note(path, "dropped", f"{value!r} is no number above 0")
        return None

    def maps(self, path: str) -> list[dict[str, Any]]:
        """A list of maps; what else stands there counts as an empty map."""
        value = self.look(path)
        items = value if isinstance(value, list) else []
        return [item if isinstance(item, dict) else {} for item in items]

    def note(self, path: str, what: What, text: str) -> None:
        self._taken.add(path)
        self.notes.append(Note(path, what, text))

    def rest(self) -> Iterator[Note]:
        """A note for every key that nothing took: dropped with the reason, or unknown."""
        reasons = dropped_keys()
        seen: set[str] = set()
        for leaf in _leaves(self._tree, ""):
            above = list(_above(leaf))
            if not self._taken.isdisjoint(above):
                continue
            path = next((one for one in above if _shape(one) in reasons), leaf)
            if path not in seen:
                seen.add(path)
                yield Note(path, "dropped", reasons.get(_shape(path)) or _unknown(leaf))


def _unknown(path: str) -> str:
    name = path.rpartition(".")[2]
    known = {key.rpartition(".")[2] for key in [*dropped_keys(), *carried_keys()]}
    return f"no key of {chart_name()}{nearest(name, known)}: the chart ignores it without a word"


def _leaves(value: Any, path: str) -> Iterator[str]:
    """Path of every value that is no map and no list of maps; of empty ones too."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path


def _shape(path: str) -> str:
    """`a[0].b` -> `a[].b`."""
    return re.sub(r"\[\d+\]", "[]", path)


def _above(path: str) -> Iterator[str]:
    """`a[0].b` -> `a`, `a[0]`, `a[0].b`."""
    for end in re.finditer(r"(?=[.\[])|$", path):
        yield path[: end.start()]
