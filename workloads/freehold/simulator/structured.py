"""A smallest valid instance of a JSON schema: what constrained decoding would allow, without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_FORMATS = {
    "date": "2026-01-01",
    "time": "12:00:00Z",
    "date-time": "2026-01-01T12:00:00Z",
    "email": "a@example.org",
    "uri": "https://example.org",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}
_DEEPEST = 16
"""Schemas that contain themselves end here."""


def as_text(schema: Any) -> str:
    """The instance as JSON in ASCII. Raises ValueError for what is no schema."""
    return json.dumps(instance_of(schema))


def instance_of(
    schema: Any, root: Mapping[str, Any] | None = None, depth: int = 0
) -> Any:  # a JSON value
    """Raises ValueError for what is no schema."""
    if schema is True or schema == {}:
        return {}
    if not isinstance(schema, Mapping):
        raise ValueError("a JSON schema is an object")
    root = root if root is not None else schema
    if depth > _DEEPEST:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return instance_of(_resolved(schema["$ref"], root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return instance_of(_simplest(schema[key]), root, depth + 1)
    if schema.get("allOf"):
        parts = [_deref(part, root) for part in schema["allOf"]]
        return instance_of(_merged([schema, *parts]), root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = "null" if "null" in kind else kind[0]
    match kind:
        case "object":
            names = schema.get("required", list(schema.get("properties", {})))
            properties = schema.get("properties", {})
            return {name: instance_of(properties.get(name, {}), root, depth + 1) for name in names}
        case "array":
            items = schema.get("items", {"type": "string"})
            return [instance_of(items, root, depth + 1)] * schema.get("minItems", 0)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
    text = _FORMATS.get(schema.get("format", ""), "text")
    return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength", 1000)]


def _number(schema: Mapping[str, Any]) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None:
        return low + 1 if "exclusiveMinimum" in schema else low
    if high is not None:
        return high - 1 if "exclusiveMaximum" in schema else high
    return schema.get("multipleOf", 1)


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part.replace("~1", "/").replace("~0", "~"))
        if found is None:
            raise ValueError(f"the schema has no {reference}")
    return found


def _deref(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    return _resolved(schema["$ref"], root) if "$ref" in schema else schema


def _simplest(schemas: list[Any]) -> Any:
    """`null` where it is allowed: the shortest."""
    nulls = [s for s in schemas if isinstance(s, Mapping) and s.get("type") == "null"]
    return (nulls or schemas)[0]


def _merged(schemas: list[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for schema in schemas:
        for key, value in schema.items():
            if key == "properties":
                merged["properties"] = {**merged.get("properties", {}), **value}
            elif key == "required":
                merged["required"] = [*merged.get("required", []), *value]
            elif key != "allOf":
                merged[key] = value
    return merged
