"""`freehold render`: files for everything, no secret, no network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from program.programs import ROOT, STACKS, recorded

from freehold.catalog.release import load_release
from freehold.cli.render import command


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("render opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_is_rendered_offline(stack: str, tmp_path: Path, offline: None) -> None:
    done = CliRunner().invoke(command, [stack, "--out", str(tmp_path), "--bundle"])
    assert done.exit_code == 0, done.output
    resources = json.loads((tmp_path / "resources.json").read_text())
    assert len(resources) == len(recorded(stack).resources)
    assert {"type", "name", "parent", "inputs", "options"} <= resources[0].keys()
    files = list((tmp_path / "kubernetes").glob("*.yaml"))
    expected = [
        r
        for r in recorded(stack).resources
        if r.type.startswith("kubernetes:") and "kind" in r.inputs
    ]
    assert len(files) == len(expected)
    for file in files:
        assert {"apiVersion", "kind", "metadata"} <= yaml.safe_load(file.read_text()).keys()
    for file in (tmp_path / "helm").glob("*.yaml"):
        chart = yaml.safe_load(file.read_text())
        assert chart["version"] == load_release().charts[chart["chart"]]["version"]


def test_the_bundle_lists_what_must_be_carried_over(tmp_path: Path, offline: None) -> None:
    CliRunner().invoke(command, ["medium", "--out", str(tmp_path), "--bundle"])
    bundle = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    references = {image["reference"]: image for image in bundle["images"]}
    assert load_release().images["envoy"].partition("@")[0] in references
    assert any(image["own"] for image in references.values())
    assert {chart["name"] for chart in bundle["charts"]} >= {"keda", "cluster-autoscaler"}
    assert any(chart["sha256"] for chart in bundle["charts"])
    assert {model["pool"] for model in bundle["models"]} == {"chat", "embed", "rerank"}
    script = tmp_path / "bundle" / "mirror.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_files_of_an_earlier_rendering_do_not_stay(tmp_path: Path, offline: None) -> None:
    for stack in ("small", "onprem"):
        CliRunner().invoke(command, [stack, "--out", str(tmp_path)])
    # The cluster is somebody's: only the stack's own monitoring is installed there.
    left = [file.name for file in (tmp_path / "helm").glob("*.yaml")]
    assert left == ["kube-prometheus-stack.yaml"]


def test_an_unknown_stack_is_refused(tmp_path: Path, offline: None) -> None:
    done = CliRunner().invoke(command, ["smal", "--out", str(tmp_path)])
    assert 'did you mean "small"' in str(done.exception)


@pytest.mark.parametrize("stack", ["medium", "onprem"])
def test_two_renderings_are_the_same_to_the_byte(stack: str, tmp_path: Path) -> None:
    """Whatever order sets and the wire have in one process or another."""
    renderings = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        render = ["from freehold.cli.main import run", "run()"]
        command = [sys.executable, "-c", "; ".join(render), "render", stack, "--bundle", "--out"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([*command, str(folder)], cwd=ROOT, env=environment, check=True)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        renderings.append({str(file.relative_to(folder)): file.read_bytes() for file in files})
    assert renderings[0] == renderings[1] and len(renderings[0]) > 50
