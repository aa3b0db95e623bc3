"""Dashboards say what exists, alike in all places, and the committed JSON is what the code makes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from freehold.monitoring.check import problems
from freehold.monitoring.dashboards.build import DASHBOARDS, to_json
from freehold.monitoring.dashboards.pages import dashboards
from freehold.monitoring.dashboards.spec import Dashboard
from freehold.monitoring.rules import alerts, recorded

_PAGES = dashboards()


def _json(page: Dashboard) -> dict[str, Any]:
    return json.loads((DASHBOARDS / f"{page.uid.removeprefix('freehold-')}.json").read_text())


def test_the_committed_json_is_what_the_code_makes() -> None:
    """Else: `python -m freehold.monitoring.dashboards`."""
    made = {f"{page.uid.removeprefix('freehold-')}.json": to_json(page) for page in _PAGES}
    assert {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")} == made


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.uid)
def test_every_query_reads_what_exists(page: Dashboard) -> None:
    found = {
        panel.title: problem
        for panel in page.panels
        for query in panel.queries
        for problem in problems(query.expression, recorded())
    }
    assert found == {}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.uid)
def test_a_variable_is_chosen_from_a_label_that_exists_and_is_used(page: Dashboard) -> None:
    text = json.dumps(_json(page))
    for variable in page.variables:
        matcher = f"{variable.series}{{{variable.label}!=''}}"
        assert problems(matcher, recorded()) == []
        assert f"${variable.name}" in text


def test_a_figure_has_one_unit_wherever_it_stands() -> None:
    units: dict[str, set[str]] = {}
    for page in _PAGES:
        for panel in page.panels:
            if panel.kind == "table" or page.uid == "freehold-plan":
                continue  # several figures in one, or ratios
            for query in panel.queries:
                units.setdefault(query.expression.replace("worker:", "pool:"), set()).add(
                    panel.unit
                )
    assert {expression: found for expression, found in units.items() if len(found) > 1} == {}


def test_every_panel_says_what_it_means_and_fits_its_row() -> None:
    for page in _PAGES:
        for panel in page.panels:
            assert panel.meaning.endswith("."), panel.title
            assert 24 % panel.width == 0, panel.title
        titles = [panel.title for panel in page.panels]
        assert len(titles) == len(set(titles)), page.uid


def test_every_alert_leads_to_a_dashboard_and_every_dashboard_to_the_others() -> None:
    uids = {page.uid for page in _PAGES}
    for name, alert in alerts().items():
        where = alert["annotations"]["dashboard"]
        assert where.removeprefix("/d/").partition("?")[0] in uids, name
        for part in where.partition("?")[2].split("&"):
            variable = part.partition("=")[0].removeprefix("var-")
            page = next(page for page in _PAGES if where.startswith(f"/d/{page.uid}"))
            assert variable in {"", *(known.name for known in page.variables)}, name
    for page in _PAGES:
        made = _json(page)
        assert made["links"][0]["tags"] == made["tags"] == ["freehold"]
        assert made["uid"] == page.uid


def test_firing_alerts_link_to_their_runbooks() -> None:
    fleet = json.dumps(_json(_PAGES[0]))
    assert '"url": "docs/runbooks/${__value.text}.md"' in fleet
