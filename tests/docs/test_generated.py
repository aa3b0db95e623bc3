"""Tables in the docs are those of the plan today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .components import components
from .generated import DOCS, pages_with_parts, written


@pytest.mark.parametrize(
    "page", pages_with_parts(), ids=lambda page: page.relative_to(DOCS).as_posix()
)
def test_generated_parts_are_fresh(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert written(text) == text, "run .venv/bin/python tests/docs/generated.py"


@pytest.mark.parametrize("tier", ["small", "medium", "large"])
def test_each_tier_shows_its_plan(tier: str) -> None:
    text = (DOCS / "tiers" / f"{tier}.md").read_text()
    for part in ("pools", "predicted", "price", "box"):
        assert f"<!-- generated: {part} {tier} -->" in text


def test_every_component_has_a_section_that_says_what_can_go_wrong() -> None:
    text = "".join(page.read_text() for page in (DOCS / "components").glob("*.md"))
    sections = re.split(r"(?m)^(?=## )", text)
    for name in components():
        mark = f"<!-- generated: component {name} -->"
        section = next((one for one in sections if mark in one), "")
        assert "**Can go wrong.**" in section, name
