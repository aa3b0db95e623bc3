"""The real engine runs the real program, with state in a folder and the policy pack.

Needs the Pulumi CLI; the last test also needs `make env-cpu`, for it starts the laptop's stack.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program.programs import ROOT

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi CLI on PATH"),
]
PACK = ROOT / "platform" / "freehold" / "policy" / "pack"
Pulumi = Callable[..., str]


@pytest.fixture
def pulumi(tmp_path: Path) -> Iterator[Pulumi]:
    """`pulumi` in a copy of the project's files, whose program and venv are the checkout's own."""
    project = tmp_path / "project"
    project.mkdir()
    for file in ROOT.glob("Pulumi*.yaml"):
        shutil.copy(file, project)
    for name in ("platform", ".venv"):
        (project / name).symlink_to(ROOT / name)
    state = tmp_path / "state"
    state.mkdir()
    environment = {
        **os.environ,
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "a test's own",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def run(*arguments: str) -> str:
        command = ["pulumi", *arguments, "--non-interactive"]
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("stack", "init", "local")
    yield run


def test_a_preview_registers_what_the_recorder_sees_and_keeps_the_rules(pulumi: Pulumi) -> None:
    steps = json.loads(pulumi("preview", "--json", "--policy-pack", str(PACK)))["steps"]
    created = {step["urn"].rpartition("::")[2] for step in steps if step["op"] == "create"}
    assert {"processes", "local"} <= created


@pytest.mark.skipif(not (ROOT / ".venv" / ".cpu").exists(), reason="no engine: make env-cpu")
def test_the_laptop_s_stack_comes_up_stays_and_goes(pulumi: Pulumi) -> None:
    pulumi("up", "--yes", "--policy-pack", str(PACK))
    try:
        assert json.loads(pulumi("stack", "output", "--json"))["baseUrl"].endswith("/v1")
        again = json.loads(pulumi("preview", "--json"))
        assert set(again["changeSummary"]) == {"same"}
        pulumi("refresh", "--yes")
    finally:
        pulumi("destroy", "--yes")
    assert json.loads(pulumi("stack", "export"))["deployment"].get("resources", []) == []
