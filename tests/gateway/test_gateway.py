"""Every claim holds before a sound gateway, with and without the picker, and fails before broken ones."""

from __future__ import annotations

from pathlib import Path

import httpx
import openai
import pytest

from . import bench_cases, conformance
from .cases import Case, Mutation
from .running import Bench, Engines, running_gateway

CASES: list[Case[Bench]] = [*conformance.suite.cases, *bench_cases.suite.cases]  # type: ignore[list-item]
SOUND = [
    pytest.param(case, picker, id=f"{case.name}-{'picker' if picker else 'plain'}")
    for case in CASES
    for picker in (False, True)
    if case.picker in (None, picker)
]
BROKEN = [
    pytest.param(case, mutation, id=f"{case.name}-{mutation.__name__}")
    for case in CASES
    for mutation in case.broken_by
]


def test_each_claim_can_fail() -> None:
    assert not [case.name for case in CASES if not case.broken_by]


@pytest.mark.parametrize(("case", "picker"), SOUND)
def test_holds(case: Case[Bench], picker: bool, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue("with_picker" if picker else "without_picker")
    case.run(bench)


@pytest.mark.parametrize(("case", "mutation"), BROKEN)
def test_catches(case: Case[Bench], mutation: Mutation, engines: Engines, tmp_path: Path) -> None:
    with (
        running_gateway(engines, tmp_path, picker=bool(case.picker), broken=mutation) as bench,
        pytest.raises((AssertionError, httpx.HTTPError, openai.APIError, KeyError)),
    ):
        case.run(bench)
