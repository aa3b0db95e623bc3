"""The one reader of stack files, for the command line and the Pulumi program alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .consistency import problems
from .errors import FreeholdError, nearest
from .inheritance import merge
from .mistakes import told
from .stack import Stack

KEY = "freehold:stack"
# The C reader when PyYAML has it: ten times as fast, same result.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def stack_names(root: Path) -> list[str]:
    """Every stack that has a file in `root`."""
    return sorted(
        p.name.removeprefix("Pulumi.").removesuffix(".yaml") for p in root.glob("Pulumi.*.yaml")
    )


def stack_file(name: str, root: Path) -> Path:
    """The path of a stack's file; refuses a name that no file in `root` has."""
    path = root / f"Pulumi.{name}.yaml"
    if path.is_file():
        return path
    known = stack_names(root)
    if not known:
        raise FreeholdError(
            f"no stack files (Pulumi.<stack>.yaml) in {root}: run freehold in a checkout"
        )
    raise FreeholdError(
        f'there is no stack "{name}" in {root}{nearest(name, known)}; there are: {", ".join(known)}'
    )


def load_stack(name: str, root: Path | None = None) -> Stack:
    """Read and check `Pulumi.<name>.yaml`, on top of the stack that it extends.

    Whatever else Pulumi keeps in the file (its encryption salt, other keys) is left alone.
    Raises FreeholdError with every mistake at once, each with its key path.
    """
    tree, files = load_tree(name, root)
    return parse_stack(tree, " on ".join(files))


def load_tree(name: str, root: Path | None = None) -> tuple[Any, list[str]]:
    """The plain tree under `freehold:stack`, `extends` resolved, and the files it came from."""
    root = root or Path.cwd()
    trees: list[Any] = []
    files: list[str] = []
    wanted: str | None = name
    while wanted is not None:
        path = stack_file(wanted, root)
        if path.name in files:
            raise FreeholdError(f"extends leads in a circle: {' -> '.join([*files, path.name])}")
        tree = _read(path)
        trees.append(tree)
        files.append(path.name)
        wanted = tree.get("extends") if isinstance(tree, dict) else None
        if wanted is not None and not isinstance(wanted, str):
            raise FreeholdError(f"{path.name}: extends must name a stack (given: {wanted!r})")
    merged = trees.pop()
    while trees:
        merged = merge(merged, trees.pop())
    return merged, files


def _read(path: Path) -> Any:
    try:
        document: Any = yaml.load(path.read_text(encoding="utf-8"), _YamlLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FreeholdError(f"{path.name} is not valid YAML: {error}") from None
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict) or KEY not in config:
        raise FreeholdError(f"{path.name} has no key config -> {KEY}: put the stack under it")
    return config[KEY]


def parse_stack(tree: Any, source: str) -> Stack:
    """The typed stack from its plain tree; `source` names the file in messages."""
    try:
        stack = Stack.model_validate(tree)
    except ValidationError as error:
        raise _refusal(source, told(error, KEY)) from None
    if found := problems(stack):
        raise _refusal(source, [f"{path}: {message}" for path, message in found])
    return stack


def _refusal(source: str, lines: list[str]) -> FreeholdError:
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    listed = "\n".join(f"  {line}" for line in lines)
    return FreeholdError(f"{source}: {count} under {KEY}\n{listed}")
