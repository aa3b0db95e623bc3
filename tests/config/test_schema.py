"""The JSON Schema for editors: current, and of what the loader takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.config.schema import stack_file_schema
from freehold.config.stack import ModelPool, Stack

ROOT = Path(__file__).parents[2]


def stack_schema() -> dict[str, Any]:
    return stack_file_schema()["properties"]["config"]["properties"]["freehold:stack"]


def test_the_committed_schema_is_the_code_s() -> None:
    committed = json.loads((ROOT / "docs" / "stack.schema.json").read_text())
    assert committed == stack_file_schema(), (
        "regenerate: .venv/bin/freehold plan --schema > docs/stack.schema.json"
    )


def test_it_knows_every_key_and_no_other() -> None:
    assert set(stack_schema()["properties"]) == set(Stack.model_fields)
    pool = stack_file_schema()["$defs"]["ModelPool"]["properties"]
    assert set(pool) == set(ModelPool.model_fields) | {"remove"}
    assert stack_schema()["additionalProperties"] is False


def test_only_a_stack_that_extends_none_must_be_complete() -> None:
    assert stack_schema()["if"] == {"required": ["extends"]}
    assert {"target", "pools"} <= set(stack_schema()["else"]["required"])


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_presets_point_editors_at_it(name: str) -> None:
    text = (ROOT / f"Pulumi.{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=docs/stack.schema.json\n")
    assert set(yaml.safe_load(text)["config"]["freehold:stack"]) <= set(Stack.model_fields)
