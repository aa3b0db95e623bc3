"""Step, spike, ramp and soak as whole runs: the load that is really there, and where a step ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from freehold.cli.main import cli
from freehold.load.deterministic import deterministic_server

ROOT = Path(__file__).parents[2]
# 30 ms and 29 x 10 ms: a stream takes 0.32 s, so eight seats give 25 answers a second.
SEATS, SERVER = 8, ("--ttft-ms", "30", "--itl-ms", "10", "--model", "chat")
LENGTHS = ("--input-tokens", "60", "--output-tokens", "30", "--no-self-check")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with deterministic_server(*SERVER, "--seats", str(SEATS)) as url:
        yield url


def _run(url: str, out: Path, *arguments: str) -> dict[str, Any]:
    command = ["load", "local", "--base-url", url, "--out", str(out), *LENGTHS, *arguments]
    with contextlib.chdir(ROOT):
        done = CliRunner().invoke(cli, command)
    # 3: the machine was busy; the levels are right all the same.
    assert done.exit_code in (0, 3), done.output
    report = json.loads((out / "report.json").read_text())
    assert report["failed"] == 0
    return {**report, "said": done.output}


def _names(report: dict[str, Any]) -> list[str]:
    return [stage["name"] for stage in report["stages"]]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_step_ends_with_the_level_that_brings_no_more(
    url: str, tmp_path: Path, processes: str
) -> None:
    level = ("--concurrency", "64", "--duration", "35", "--warmup", "1", "--processes", processes)
    report = _run(url, tmp_path, "--shape", "step", *level)
    assert report["saturation"]["level"] == "16"
    assert _names(report) == ["1", "2", "4", "8", "16"], "32 and 64 are never sent"
    assert "Saturated at 16: 100% more load than at 8 brought" in report["said"]
    assert report["max_concurrent_requests"] == 16
    assert report["knee"]["concurrency"] == pytest.approx(8, rel=0.1)
    assert "Saturated at 16" in (tmp_path / "report.html").read_text()


def test_a_step_of_an_open_loop_ends_where_requests_pile_up(url: str, tmp_path: Path) -> None:
    level = ("--rate", "80", "--arrivals", "constant", "--duration", "45", "--warmup", "0")
    report = _run(url, tmp_path, "--shape", "step", *level)
    assert report["saturation"]["level"] == "40", "25 a second are what the seats give"
    assert max(stage["rate"] for stage in report["stages"]) == 40


def test_a_step_that_stays_below_saturation_says_so(url: str, tmp_path: Path) -> None:
    level = ("--concurrency", "4", "--duration", "9", "--warmup", "0")
    report = _run(url, tmp_path, "--shape", "step", *level)
    assert report["saturation"] == {"level": "4", "why": None}
    assert "Not saturated up to 4." in report["said"]


@pytest.mark.parametrize(
    ("shape", "levels"),
    [("spike", [2, 8, 2]), ("ramp", [1, 2, 3, 4, 5, 6, 7, 8]), ("soak", [8])],
)
def test_the_load_has_the_shape_that_was_asked_for(
    url: str, tmp_path: Path, shape: str, levels: list[int]
) -> None:
    level = ("--concurrency", "8", "--duration", "16", "--warmup", "0")
    report = _run(url, tmp_path, "--shape", shape, *level)
    # Steps of two seconds: the drain of one is in the next.
    found = [stage["mean_concurrency"] for stage in report["stages"]]
    assert found == pytest.approx(levels, rel=0.2)
    assert report["saturation"] is None
