"""What each component makes, counted in recorded programs: those of the presets and two more."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from freehold.load.job import LoadTestJob, LoadTestJobArgs
from freehold.load.stages import Stage
from freehold.load.test import LoadTest
from freehold.load.verdict import Promise
from freehold.recording.program import record_program
from freehold.recording.recorder import record
from freehold.recording.resource import Resource

if __package__:
    from .pages import ROOT
else:  # as tests/docs/generated.py runs it
    from pages import ROOT  # pyright: ignore[reportMissingImports]

# What no preset says, on top of one that could.
_VARIANTS = {
    "a bought block": """
    extends: large
    target: {alarm_email: somebody@example.com}
    pools:
      - name: chat
        capacity: {id: cr-0123456789abcdef0, zone: us-east-2a, ends: 2027-03-01T11:30:00Z}
""",
    "prefill apart": """
    extends: medium
    budget: null
    cache: null
    pools:
      - name: chat
        disaggregated: {}
""",
    "a cache a node": """
    extends: medium
    cache: {placement: node}
""",
}


@cache
def recordings() -> dict[str, tuple[Resource, ...]]:
    """Title of a column -> everything that one program registers: presets first."""
    found = {f"`{name}`": record_program(ROOT, name).resources for name in _presets()}
    found |= {title: _of_a_variant(text) for title, text in _VARIANTS.items()}
    return {**found, "by hand": _of_a_load_test()}


def _presets() -> list[str]:
    return sorted(file.suffixes[0][1:] for file in ROOT.glob("Pulumi.*.yaml"))


def _of_a_variant(stack: str) -> tuple[Resource, ...]:
    """The program finds its stack files beside itself, so it goes where the variant is."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        for file in (*ROOT.glob("Pulumi*.yaml"), ROOT / "platform" / "__main__.py"):
            target = checkout / file.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
        text = f"config:\n  freehold:stack:{stack}"
        (checkout / "Pulumi.variant.yaml").write_text(text)
        return record_program(checkout, "variant").resources


def _of_a_load_test() -> tuple[Resource, ...]:
    """The program of somebody who adds the component."""
    test = LoadTest(
        base_url="http://gateway:8080",
        model="chat",
        out=Path("out"),
        corpora=Path("corpora"),
        stages=(Stage(name="steady", seconds=60, concurrency=8),),
        salt="docs",
    )
    args = LoadTestJobArgs(
        namespace="load", image="freehold:1", test=test, tier="small", promise=Promise(), workers=2
    )

    def program() -> None:
        LoadTestJob("load-test", args)

    return record(program, stack="by-hand").resources


def made(token: str) -> dict[str, Counter[tuple[str, bool]]]:
    """Column -> (type of a child, whether it is protected) -> how many.

    Only programs with the component, and no variant where a preset has it.
    """
    columns = {title: _children(token, resources) for title, resources in recordings().items()}
    having = {title: children for title, children in columns.items() if children is not None}
    presets = {title: children for title, children in having.items() if title.startswith("`")}
    return presets or having


def _children(token: str, resources: tuple[Resource, ...]) -> Counter[tuple[str, bool]] | None:
    parents = {resource.urn for resource in resources if resource.type == token}
    if not parents:
        return None
    found = Counter((r.type, r.protect) for r in resources if r.parent in parents)
    found[token, False] = len(parents)
    return found


def parents(token: str) -> set[str]:
    """Types of what a component stands in; none: at the top."""
    return set(_parents(token))


def _parents(token: str) -> Iterator[str]:
    for resources in recordings().values():
        by_urn = {resource.urn: resource.type for resource in resources}
        for resource in resources:
            if resource.type == token and resource.parent in by_urn:
                yield by_urn[resource.parent]
