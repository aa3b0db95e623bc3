"""GitHub's workflows call commands that exist, with the variables that platform/bootstrap fills."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from program.programs import ROOT

from freehold.cluster.registry import OWN_IMAGES

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
PLATFORM = (ROOT / "docs" / "platform.md").read_text()
EACH = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)


def jobs(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())["jobs"]


def commands(file: Path) -> list[str]:
    """Every `run`, once for each value of the matrix that it names."""
    found = []
    for job in jobs(file).values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            command = step.get("run", "")
            named = re.search(r"\$\{\{ matrix\.(\w+) \}\}", command)
            for value in matrix[named[1]] if named else [""]:
                found.append(command.replace(named[0], value) if named else command)
    return [command for command in found if command]


@EACH
def test_every_make_target_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {
        word
        for c in commands(file)
        for m in re.findall(r"make ([a-z0-9 -]+)", c)
        for word in m.split()
    }
    assert called and called <= targets


@EACH
def test_every_file_that_a_command_names_exists(file: Path) -> None:
    words = [word for command in commands(file) for word in command.split()]
    named = [word for word in words if "/" in word and not word.startswith((".venv/", "$"))]
    assert [word for word in named if not (ROOT / word).exists()] == []


@EACH
def test_every_variable_is_in_the_table_that_says_where_it_comes_from(file: Path) -> None:
    used = set(re.findall(r"vars\.([A-Z_]+)", file.read_text()))
    assert [name for name in sorted(used) if f"| `{name}` |" not in PLATFORM] == []


def test_the_table_has_every_output_of_bootstrap() -> None:
    program = (ROOT / "platform" / "bootstrap" / "__main__.py").read_text()
    outputs = re.findall(r'pulumi\.export\("(\w+)"', program)
    assert len(outputs) == 4 and all(f"`{name}`" in PLATFORM for name in outputs)


def test_who_may_deploy_runs_in_the_environment_that_the_role_trusts() -> None:
    for file in WORKFLOWS:
        for job in jobs(file).values():
            if "AWS_DEPLOY_ROLE" in str(job):
                assert job["environment"] == "production", file.name


def test_every_image_of_ours_is_built() -> None:
    (job,) = jobs(ROOT / ".github" / "workflows" / "images.yaml").values()
    assert set(job["strategy"]["matrix"]["image"]) == set(OWN_IMAGES)


def test_the_engine_s_tests_run_where_the_cli_is_installed_before_them() -> None:
    (job,) = jobs(ROOT / ".github" / "workflows" / "engine.yml").values()
    places = [str(step.get("uses", "")) + str(step.get("run", "")) for step in job["steps"]]
    cli = next(place for place, said in enumerate(places) if said.startswith("pulumi/actions"))
    tests = next(place for place, said in enumerate(places) if "-m engine" in said)
    assert cli < tests
