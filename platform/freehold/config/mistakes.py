"""From pydantic's errors to lines that a reader of the stack file understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from .errors import nearest
from .stack import Stack

Location = tuple[int | str, ...]


def told(error: ValidationError, root: str) -> list[str]:
    """One line a mistake: `pools[0].replicas: must be ... (given: -1)`; `root` names the top."""
    return [_line(problem, root) for problem in error.errors()]


def _line(problem: Any, root: str) -> str:
    kind, location = problem["type"], _without_tags(problem["loc"])
    where = _path(location) or root
    if kind == "extra_forbidden":
        key = str(problem["loc"][-1])
        known = _keys_at(problem["loc"][:-1])
        allowed = f"; allowed here: {', '.join(known)}" if known else ""
        return f"{where}: unknown key{nearest(key, known)}{allowed}"
    if kind == "missing":
        return f"{where}: is required"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _untagged(problem, where)
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    given = problem["input"]
    if kind == "literal_error":
        message += nearest(str(given), [word.strip("' ") for word in _listed(message)])
    if isinstance(given, str | int | float | bool) or given is None:
        return f"{where}: {message} (given: {given!r})"
    return f"{where}: {message}"


def _untagged(problem: Any, where: str) -> str:
    """A map whose `kind` (or `method`) names no member of the union, or that has none."""
    context = problem["ctx"]
    tag = context["discriminator"].strip("'")
    if problem["type"] == "union_tag_not_found":
        return f"{where}.{tag}: is required"
    known = [word.strip("' ") for word in context["expected_tags"].split(",")]
    given = context["tag"]
    return f"{where}.{tag}: must be one of {', '.join(known)}{nearest(given, known)} (given: {given!r})"


def _listed(message: str) -> list[str]:
    """The choices in pydantic's `must be 'a', 'b' or 'c'`."""
    return message.removeprefix("must be ").replace(" or ", ", ").split(",")


def _path(location: Location) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _without_tags(location: Location) -> Location:
    """The location as the file has it: pydantic adds the tag of each union member that it met."""
    kept: list[int | str] = []
    models: list[type[BaseModel]] = [Stack]
    for part in location:
        models, is_tag = _step(models, part)
        if not is_tag:
            kept.append(part)
    return tuple(kept)


def _keys_at(location: Location) -> list[str]:
    """The keys that the model at a location of the tree allows (empty when it is not one)."""
    models: list[type[BaseModel]] = [Stack]
    for part in location:
        models, _ = _step(models, part)
    return sorted({key for model in models for key in model.model_fields})


def _step(models: list[type[BaseModel]], part: int | str) -> tuple[list[type[BaseModel]], bool]:
    """The models one part further down, and whether that part was a union's tag."""
    if isinstance(part, int):
        return models, False
    tagged = [model for model in models if _discriminates(model, part)]
    if tagged and not any(part in model.model_fields for model in models):
        return tagged, True
    found = [
        inner
        for model in models
        if part in model.model_fields
        for inner in _models_in(model.model_fields[part].annotation)
    ]
    return found, False


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model class inside an annotation (optional, list, union, alias)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)


def _discriminates(model: type[BaseModel], tag: str) -> bool:
    """Pydantic puts a union's tag in the location: does this member carry it?"""
    return any(
        tag in getattr(field.annotation, "__args__", ()) for field in model.model_fields.values()
    )
