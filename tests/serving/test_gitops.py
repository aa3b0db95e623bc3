"""What `freehold render` writes can be committed and applied as it is (docs/gitops.md)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .programs import ROOT

PAGE = (ROOT / "docs" / "gitops.md").read_text()
PLACEHOLDER = re.compile(r"<[a-z][\w.-]*>")
Objects = list[dict[str, Any]]


def rendered(stack: str, out: Path) -> Path:
    program = Path(sys.executable).with_name("freehold")
    command = [program, "render", stack, "--out", out]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def onprem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered("onprem", tmp_path_factory.mktemp("onprem"))


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On EKS, with a cache of its own and with scaling: every Secret and every chart's kind."""
    return rendered("medium", tmp_path_factory.mktemp("medium"))


def objects(folder: Path) -> Objects:
    files = sorted((folder / "kubernetes").glob("*.yaml"))
    found = [list(yaml.safe_load_all(file.read_text())) for file in files]
    assert len(found) > 30 and all(len(each) == 1 for each in found), "one object a file"
    return [each[0] for each in found]


def charts(folder: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: yaml.safe_load(file.read_text()) for file in folder.glob("helm/*.yaml")}


def names(made: Objects, kind: str) -> set[tuple[str | None, str]]:
    of_kind = [item["metadata"] for item in made if item["kind"] == kind]
    return {(metadata.get("namespace"), metadata["name"]) for metadata in of_kind}


def rows(heading: str) -> list[list[list[str]]]:
    """Of the table below such a header: what each cell has between backticks."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]] for line in lines]


def test_objects_are_complete(onprem: Path) -> None:
    made = objects(onprem)
    namespaces = {name for _, name in names(made, "Namespace")}
    for item in made:
        assert item["apiVersion"] and item["metadata"]["name"]
        namespace = item["metadata"].get("namespace")
        assert (namespace in namespaces) if namespace else item["kind"] == "Namespace"


def test_a_cluster_of_one_s_own_has_a_single_chart(onprem: Path) -> None:
    """Its namespace and the Secret that it is told of are among the objects."""
    made, (chart,) = objects(onprem), charts(onprem).items()
    name, content = chart
    assert name == content["chart"] == "kube-prometheus-stack"
    assert content["version"] and content["repository"].startswith("https://")
    assert (None, content["namespace"]) in names(made, "Namespace")
    secret = content["values"]["grafana"]["admin"]["existingSecret"]
    assert (content["namespace"], secret) in names(made, "Secret")


@pytest.mark.parametrize("stack", ["onprem", "medium"])
def test_every_kind_that_a_chart_brings_is_in_the_page(
    stack: str, request: pytest.FixtureRequest
) -> None:
    """Whoever applies these before the chart is refused."""
    folder: Path = request.getfixturevalue(stack)
    brings = {"monitoring.coreos.com": "kube-prometheus-stack", "keda.sh": "keda"}
    own = [i for i in objects(folder) if i["apiVersion"].partition("/")[0] in brings]
    assert own
    for item in own:
        assert brings[item["apiVersion"].partition("/")[0]] in charts(folder)
        assert f"`{item['kind']}`" in PAGE


def test_only_secrets_are_left_open_on_a_cluster_of_one_s_own(onprem: Path) -> None:
    holding = {item["kind"] for item in objects(onprem) if PLACEHOLDER.search(json.dumps(item))}
    assert holding == {"Secret"}
    assert not PLACEHOLDER.search(json.dumps(charts(onprem)))


def test_what_only_the_cloud_knows_is_in_the_page(medium: Path) -> None:
    where: dict[str, set[str]] = {}
    for item in objects(medium):
        if item["kind"] != "Secret":
            for found in PLACEHOLDER.findall(json.dumps(item)):
                where.setdefault(found, set()).add(f"{item['kind']}s")
    for name, chart in charts(medium).items():
        for found in PLACEHOLDER.findall(json.dumps(chart)):
            where.setdefault(found, set()).add(f"helm/{name}.yaml")
    assert where.keys() == {first[0] for first, *_ in rows("placeholder")}
    for placeholder, holders in where.items():
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{placeholder}` |")]
        assert all(holder in line for holder in holders), (placeholder, holders)
        assert "ConfigMaps" not in holders


def test_the_page_lists_exactly_the_secrets_that_a_store_must_write(
    onprem: Path, medium: Path
) -> None:
    made: dict[tuple[str, str], set[str]] = {}
    for stack, folder in (("onprem", onprem), ("medium", medium)):
        for item in objects(folder):
            if item["kind"] == "Secret":
                name = re.sub(r"^gateway-key-.*", "gateway-key-<tenant>", item["metadata"]["name"])
                namespace = item["metadata"]["namespace"].replace(f"{stack}-", "<stack>-")
                made.setdefault((name, namespace), set()).update(item["stringData"])
    told = {
        (name, namespace): set(keys)
        for (name,), namespaces, keys, _ in rows("Secret")
        for namespace in namespaces
    }
    assert made == told


def test_every_command_and_key_of_the_pages_exists() -> None:
    from freehold.cli.main import COMMANDS
    from freehold.config.target import ExistingCluster

    for name in ("serving", "onprem", "gitops"):
        page = (ROOT / "docs" / f"{name}.md").read_text()
        for command in re.findall(r"freehold ([a-z]+) (?:STACK|onprem)", page):
            assert command in COMMANDS
        for link in re.findall(r"\]\((?!https:)([^)#]+)\)", page):
            assert (ROOT / "docs" / link).exists(), link
    block = re.search(r"```yaml\n(target:.*?)```", (ROOT / "docs/onprem.md").read_text(), re.DOTALL)
    assert block
    ExistingCluster.model_validate(yaml.safe_load(block[1])["target"])
