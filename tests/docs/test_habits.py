"""Workflows, issue forms and Renovate's patterns: they name what exists and match what they should."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_targets_that_exist(workflow: Path) -> None:
    text = workflow.read_text()
    jobs = yaml.safe_load(text)["jobs"]
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for line in re.findall(r"run: make ([a-z0-9 -]+)", text) for word in line.split()}
    for job in jobs.values():
        named |= set(job.get("strategy", {}).get("matrix", {}).get("target", ()))
        assert job.get("timeout-minutes"), "a job that hangs must end"
    assert named - targets == set()


def test_every_suite_runs_before_a_change_lands() -> None:
    suites = set(re.findall(r"^(test[a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    checks = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())
    assert suites - set(checks["jobs"]["make"]["strategy"]["matrix"]["target"]) == set()


def test_a_workflow_s_rights_are_said() -> None:
    for workflow in WORKFLOWS:
        assert "permissions" in yaml.safe_load(workflow.read_text()), workflow.name


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_complete(form: Path) -> None:
    tree = yaml.safe_load(form.read_text())
    if form.name == "config.yml":
        return
    assert {"name", "description", "body"} <= set(tree)
    assert all(part["attributes"].get("label") for part in tree["body"])


# Versions that no registry which Renovate knows could raise.
_BY_HAND = {
    "grafana-foundation-sdk",  # an epoch in front of Grafana's version: the newest is for another Grafana
}


def test_renovate_finds_every_version_of_packages_images_and_charts() -> None:
    text = (ROOT / "platform/freehold/catalog/release.yaml").read_text()
    found: dict[str, tuple[str, str | None]] = {}
    for manager in json.loads((ROOT / "renovate.json").read_text())["customManagers"]:
        for pattern in manager["matchStrings"]:
            python = re.sub(r"\(\?<(\w+)>", r"(?P<\1>", pattern)
            for match in re.finditer(python, text):
                groups = match.groupdict()
                found[match["depName"]] = match["currentValue"], groups.get("registryUrl")
    assert found == dict(_versions(yaml.safe_load(text)))


def _versions(release: dict[str, Any]) -> Iterator[tuple[str, tuple[str, str | None]]]:
    for part in ("python_packages", "tools", "engine_image"):
        for name, version in release[part].items():
            if name not in _BY_HAND:
                yield name, (str(version), None)
    for image in release["images"].values():
        name, _, tag = image.partition("@")[0].rpartition(":")
        yield name, (tag, None)
    for name, chart in release["charts"].items():
        yield name, (chart["version"], chart["repository"])
