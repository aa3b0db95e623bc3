"""The real Pulumi engine on the project's own program: state in a folder, providers that create nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from program.programs import ROOT
from program.stand_in.provider import LOG

from freehold.config.inheritance import merge

PACK = ROOT / "platform" / "freehold" / "policy" / "pack"
NEEDS_PULUMI = [
    pytest.mark.engine,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi CLI on PATH"),
]
_SOURCE_ROOTS = ("platform", "workloads", "observability", "loadtests")
_PACKAGES = ("aws", "eks", "kubernetes")


@dataclass
class Engine:
    """`pulumi` in a project of its own: a copy of the stack files and of the thin program, whose
    components are the checkout's."""

    folder: Path
    stack: str
    environment: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, stack: str, source: Path = ROOT) -> Engine:
        engine = Engine(folder, stack, _environment(folder))
        (engine.project / "platform").mkdir(parents=True)
        (engine.project / ".venv").symlink_to(ROOT / ".venv")
        # As in the checkout (test_layout.py).
        (engine.project / "platform" / ".venv").symlink_to("../.venv")
        (folder / "state").mkdir()
        engine.use(source)
        engine.run("stack", "init", stack)
        return engine

    def use(self, source: Path) -> None:
        """Run the program of this checkout from now on, with its stack files; what Pulumi wrote into
        the stack's own stays."""
        shutil.copy(source / "platform" / "__main__.py", self.program)
        for file in source.glob("Pulumi*.yaml"):
            kept = _read(self.project / file.name)
            config = kept.get("config", {}) | _read(file).get("config", {})
            content = kept | _read(file) | ({"config": config} if config else {})
            (self.project / file.name).write_text(yaml.safe_dump(content, sort_keys=False))
        roots = [str(source / root) for root in _SOURCE_ROOTS]
        self.environment["PYTHONPATH"] = os.pathsep.join(roots)

    @property
    def stack_file(self) -> Path:
        return self.project / f"Pulumi.{self.stack}.yaml"

    @property
    def program(self) -> Path:
        return self.project / "platform" / "__main__.py"

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def run(self, *arguments: str) -> str:
        """Its standard output. A command that fails fails the test with all that it said."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, _complaint(done.stdout) + done.stderr
        return done.stdout

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["pulumi", *arguments, "--non-interactive", "--color", "never"]
        return subprocess.run(
            command,
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def up(self, *arguments: str) -> list[dict[str, Any]]:
        """What providers were asked to do."""
        return self._changes("up", *arguments)

    def destroy(self, *arguments: str) -> list[dict[str, Any]]:
        return self._changes("destroy", *arguments)

    def _changes(self, command: str, *arguments: str) -> list[dict[str, Any]]:
        self.log.write_text("")
        self.run(command, "--yes", "--skip-preview", "--suppress-outputs", *arguments)
        return self.logged()

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def preview(self, *arguments: str) -> list[dict[str, Any]]:
        """Steps that change something."""
        steps = json.loads(self.run("preview", "--json", *arguments))["steps"]
        return [step for step in steps if step["op"] != "same"]

    def resources(self) -> list[dict[str, Any]]:
        """What the state holds."""
        found = json.loads(self.run("stack", "export"))["deployment"]
        return found.get("resources", [])

    def change(self, tree: dict[str, Any]) -> None:
        """Lay `tree` over the stack file, as a stack that extends it would."""
        content = yaml.safe_load(self.stack_file.read_text())
        content["config"]["freehold:stack"] = merge(content["config"]["freehold:stack"], tree)
        self.stack_file.write_text(yaml.safe_dump(content, sort_keys=False))

    @contextmanager
    def changed(self, tree: dict[str, Any]) -> Iterator[None]:
        """The same, for a while."""
        before = self.stack_file.read_text()
        self.change(tree)
        try:
            yield
        finally:
            self.stack_file.write_text(before)


def _read(file: Path) -> dict[str, Any]:
    return (yaml.safe_load(file.read_text()) or {}) if file.exists() else {}


def _complaint(said: str) -> str:
    """What went wrong, out of all that the engine says."""
    try:
        diagnostics = json.loads(said)["diagnostics"]
    except (ValueError, KeyError):
        return said.partition("Diagnostics:")[2] or said
    return "\n".join(one.get("message", "") for one in diagnostics)


def names(steps: Iterable[dict[str, Any]], op: str) -> set[str]:
    """Names of the resources that some steps of a preview do this to."""
    return {step["urn"].rpartition("::")[2] for step in steps if step["op"] == op}


def _environment(folder: Path) -> dict[str, str]:
    plugins = folder / "plugins"
    plugins.mkdir()
    for package in _PACKAGES:
        file = plugins / f"pulumi-resource-{package}"
        file.write_text(
            "#!/bin/sh\n"
            f"STAND_IN={package} PYTHONPATH={ROOT / 'tests'}:$PYTHONPATH "
            f'exec {sys.executable} -m program.stand_in "$@"\n'
        )
        file.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "PATH": f"{plugins}:{os.environ['PATH']}",
        LOG: str(folder / "log"),
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_BACKEND_URL": (folder / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "a test's own",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "false",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
