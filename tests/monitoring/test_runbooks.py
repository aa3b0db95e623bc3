"""Every alert says what it means and has a page with commands to look and to act."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from freehold.cli.main import cli
from freehold.monitoring.check import problems
from freehold.monitoring.rules import alerts, recorded

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
_SEVERITIES = {"page", "ticket", "none"}
_PROGRAMS = {"freehold", "kubectl", "aws"}


def _blocks(text: str, language: str) -> Iterator[str]:
    """The lines of every fenced block of a language."""
    for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
        yield from (line.strip() for line in block.strip().splitlines())


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_is_complete(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in _SEVERITIES
    summary = alert["annotations"]["summary"]
    assert summary[0].isupper() or summary.startswith("{{"), summary
    assert summary.endswith("."), summary
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"


@pytest.mark.parametrize("name", sorted(alerts()))
def test_its_runbook_tells_how_to_look_and_to_act(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    title, _, rest = text.partition("\n")
    meaning, _, rest = rest.partition("## Look")
    look, _, act = rest.partition("## Act")
    assert title == f"# {name}"
    assert len(meaning.split()) > 10
    assert list(_blocks(look, "promql")) or list(_blocks(look, "sh"))
    assert list(_blocks(act, "sh"))
    for expression in _blocks(look, "promql"):
        assert problems(expression, recorded()) == []
    for command in [*_blocks(text, "sh")]:
        program, *arguments = command.split()
        assert program in _PROGRAMS, command
        if program == "freehold":
            assert arguments[0] in cli.list_commands(click.Context(cli)), command


def test_no_runbook_is_left_over_and_all_are_in_the_index() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == set(alerts())
    index = (RUNBOOKS / "README.md").read_text()
    assert [name for name in sorted(pages) if f"[{name}]({name}.md)" not in index] == []
