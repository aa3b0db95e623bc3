"""The program is thin, and Pulumi finds it."""

from __future__ import annotations

import ast

import yaml
from program.programs import ROOT, STACKS


def test_the_program_only_composes() -> None:
    text = (ROOT / "platform" / "__main__.py").read_text()
    assert len(text.splitlines()) < 100
    calls = {n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)}
    assert not calls & {"environ", "getenv"}


def test_the_project_runs_with_the_checkout_s_venv() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    assert project["main"] == "platform"
    assert project["runtime"] == {
        "name": "python",
        "options": {"toolchain": "pip", "virtualenv": ".venv"},
    }


def test_the_venv_is_found_beside_the_program_too() -> None:
    """Pulumi starts the process of dynamic resources in the program's folder, with the same name of it."""
    assert (ROOT / "platform" / ".venv").readlink().as_posix() == "../.venv"


def test_every_stack_has_its_file() -> None:
    assert [name for name in STACKS if not (ROOT / f"Pulumi.{name}.yaml").exists()] == []
