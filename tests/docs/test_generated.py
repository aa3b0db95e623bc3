"""Tables in the docs are those of the plan today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .components import components, described, page_of
from .generated import pages_with_parts, written
from .pages import DOCS, blocks, name_of


@pytest.mark.parametrize("page", pages_with_parts(), ids=name_of)
def test_generated_parts_are_fresh(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert written(text) == text, "run .venv/bin/python tests/docs/generated.py"


@pytest.mark.parametrize("tier", ["small", "medium", "large"])
def test_each_tier_shows_its_plan(tier: str) -> None:
    text = (DOCS / "tiers" / f"{tier}.md").read_text()
    for part in ("pools", "predicted", "price", "box"):
        assert f"<!-- generated: {part} {tier} -->" in text


def test_a_box_stands_before_a_page_s_first_pulumi_up() -> None:
    """In boxes: what is created, what it costs, how long it takes, how it goes. These two pages begin
    with a stack that is there already."""
    running = {"docs/teardown.md", "docs/how-to/roll-out-a-model.md"}
    typed = {one.page: one for one in reversed(list(blocks())) if "\npulumi up" in f"\n{one.text}"}
    assert len(typed) > 6
    without = []
    for name, block in typed.items():
        above = (DOCS.parent / name).read_text().splitlines()[: block.line - 1]
        if name not in running and '!!! warning "Before you type `pulumi up`"' not in above:
            without.append(block.where)
    assert without == []


@pytest.mark.parametrize("name", components())
def test_every_component_has_a_page_that_says_what_can_go_wrong(name: str) -> None:
    page = page_of(name)
    assert page.exists(), f"write {page.name}: a title, its mark, and what can go wrong"
    generated, _, wrong = page.read_text().partition("## Can go wrong")
    assert f"# {name}\n" in generated and f"<!-- generated: component {name} -->" in generated
    assert wrong.count("\n| ") >= 3, "a table: what, then"


def test_every_input_and_output_has_words() -> None:
    """In the class, in a string below its name; or in `_COMMON` where it means the same everywhere."""
    silent = {
        f"{name}: {row}"
        for name in components()
        for row in re.findall(r"^\| `(.+?)` \| `.+` \|  \|$", described(name), re.MULTILINE)
    }
    assert silent == set()
