"""A stack file in the making: its tree, and the comment that each value carries."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from freehold.config import FreeholdError
from freehold.config.loader import KEY

KeyPath = tuple[str | int, ...]


@dataclass
class Draft:
    """The tree under `freehold:stack`; `comments` by the path of the value that they explain."""

    heading: tuple[str, ...]
    tree: dict[str, Any]
    comments: dict[KeyPath, str] = field(default_factory=dict)

    def text(self) -> str:
        """The whole file."""
        yaml = YAML()
        yaml.width = 10_000
        yaml.representer.add_representer(type(None), _plain_null)
        yaml.indent(mapping=2, sequence=4, offset=2)
        out = io.StringIO()
        yaml.dump({"config": {KEY: self._commented(self.tree, ())}}, out)
        head = ("yaml-language-server: $schema=docs/stack.schema.json", *self.heading)
        return "".join(f"# {line}\n" for line in head) + out.getvalue()

    def _commented(self, value: Any, path: KeyPath) -> Any:
        if isinstance(value, dict):
            mapping = CommentedMap()
            for key, inner in value.items():
                mapping[key] = self._commented(inner, (*path, key))
                comment = self.comments.get((*path, key))
                if comment:
                    mapping.yaml_add_eol_comment(comment, key, column=0)
            return mapping
        if isinstance(value, list):
            sequence = CommentedSeq(
                self._commented(inner, (*path, place)) for place, inner in enumerate(value)
            )
            if not any(isinstance(inner, dict | list) for inner in value):
                sequence.fa.set_flow_style()
            return sequence
        return value


def _plain_null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet; FreeholdError when it is."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise already_there(path) from None
    except OSError as error:
        raise FreeholdError(f"{path}: cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def already_there(path: Path) -> FreeholdError:
    return FreeholdError(
        f"{path.name} is there already and stays as it is: give another name "
        "(`freehold init NAME`), or delete it first"
    )
