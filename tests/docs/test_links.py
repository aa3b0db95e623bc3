"""Links lead somewhere, every page is in the navigation, and the site loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .pages import DOCS, ROOT, anchors, name_of, pages, prose

_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(link)
    assert broken == []


def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / ".site" / "hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    found = hooks().on_config({"docs_dir": str(DOCS), "nav": config["nav"]})
    named = set(hooks()._named(found["nav"]))
    assert named == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(https?://[^\"\s>]+)")
    foreign = {
        address
        for page in tmp_path.rglob("*.html")
        for address in loaded.findall(page.read_text(encoding="utf-8"))
    }
    assert foreign == set()


def functions(file: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (\w+)", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_link_into_a_test_names_one_that_exists(page: Path) -> None:
    links = [link.split("#") for link in _LINK.findall(prose(page)) if ".py#" in link]
    assert [name for path, name in links if name not in functions(page.parent / path)] == []


def test_what_we_claim_beside_others_is_shown_by_a_test() -> None:
    table = prose(DOCS / "comparison.md").partition("\n\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    head, _, *cells = rows
    assert len(cells) > 20 and {len(row) for row in rows} == {len(head)}
    claimed = [row for row in cells if row[1].lstrip("[")[0] in "Y~"]
    assert [row[0] for row in claimed if "](../tests/" not in row[1] or ".py#" not in row[1]] == []
    assert [row[0] for row in cells for cell in row[2:] if cell[0] not in "Y~-?"] == []
