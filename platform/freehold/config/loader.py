"""The one reader of stack files, for the command line and the Pulumi program alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .errors import FreeholdError, nearest
from .stack import Stack

KEY = "freehold:stack"


def stack_file(name: str, root: Path) -> Path:
    """The path of a stack's file; refuses a name that no file in `root` has."""
    path = root / f"Pulumi.{name}.yaml"
    if path.is_file():
        return path
    known = sorted(
        p.name.removeprefix("Pulumi.").removesuffix(".yaml") for p in root.glob("Pulumi.*.yaml")
    )
    if not known:
        raise FreeholdError(
            f"no stack files (Pulumi.<stack>.yaml) in {root}: run freehold in a checkout"
        )
    raise FreeholdError(
        f'there is no stack "{name}" in {root}{nearest(name, known)}; there are: {", ".join(known)}'
    )


def load_stack(name: str, root: Path | None = None) -> Stack:
    """Read and check `Pulumi.<name>.yaml`.

    Whatever else Pulumi keeps in the file (its encryption salt, other keys) is left alone.
    Raises FreeholdError with every mistake at once, each with its key path.
    """
    path = stack_file(name, root or Path.cwd())
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FreeholdError(f"{path.name} is not valid YAML: {error}") from None
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict) or KEY not in config:
        raise FreeholdError(f"{path.name} has no key config -> {KEY}: put the stack under it")
    return parse_stack(config[KEY], path.name)


def parse_stack(tree: Any, source: str) -> Stack:
    """The typed stack from its plain tree; `source` names the file in messages."""
    try:
        return Stack.model_validate(tree)
    except ValidationError as error:
        lines = [_line(problem, tree) for problem in error.errors()]
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise FreeholdError(
            f"{source}: {count} under {KEY}\n" + "\n".join(f"  {line}" for line in lines)
        ) from None


def _line(problem: Any, tree: Any) -> str:
    """`pools[0].replicas: -1: Input should be ...`, in the reader's words."""
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    kind, where = problem["type"], path or KEY
    if kind == "extra_forbidden":
        key = str(problem["loc"][-1])
        known = _keys_at(problem["loc"][:-1])
        allowed = f"; allowed here: {', '.join(known)}" if known else ""
        return f"{where}: unknown key{nearest(key, known)}{allowed}"
    if kind == "missing":
        return f"{where}: is required"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    given = problem["input"]
    if isinstance(given, str | int | float | bool) or given is None:
        return f"{where}: {message} (given: {given!r})"
    return f"{where}: {message}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the model at a location of the tree allows (empty when it is not one)."""
    models: list[type[BaseModel]] = [Stack]
    for part in location:
        if isinstance(part, int):
            continue
        found: list[type[BaseModel]] = []
        for model in models:
            if part in model.model_fields:
                found += _models_in(model.model_fields[part].annotation)
            elif _discriminates(model, part):
                found.append(model)
        models = found
    return sorted({key for model in models for key in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every model class inside an annotation (optional, list, union, alias)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = getattr(annotation, "__args__", ())
    return [model for part in inner for model in _models_in(part)]


def _discriminates(model: type[BaseModel], tag: str) -> bool:
    """Pydantic puts a union's tag in the location: does this member carry it?"""
    return any(
        tag in getattr(field.annotation, "__args__", ()) for field in model.model_fields.values()
    )
