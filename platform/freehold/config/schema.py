"""The JSON Schema of a stack file, for editors that complete and check it as it is written."""

from __future__ import annotations

from typing import Any

from .loader import KEY
from .stack import Stack


def stack_file_schema() -> dict[str, Any]:
    """A schema of the whole `Pulumi.<stack>.yaml`; what Pulumi keeps beside our key is allowed.

    A file that extends another need not repeat what is required, nor need its pools.
    """
    stack = Stack.model_json_schema()
    definitions = stack.pop("$defs")
    pool = definitions["ModelPool"]
    needs = {"stack": stack.pop("required"), "pool": pool.pop("required")}
    pool["required"] = ["name"]
    pool["properties"]["remove"] = {
        "const": True,
        "description": "With extends: take this pool out.",
    }
    stack["if"] = {"required": ["extends"]}
    stack["else"] = {
        "required": needs["stack"],
        "properties": {"pools": {"items": {"required": needs["pool"]}}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Freehold stack file",
        "type": "object",
        "required": ["config"],
        "properties": {"config": {"type": "object", "required": [KEY], "properties": {KEY: stack}}},
        "$defs": definitions,
    }
