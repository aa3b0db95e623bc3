"""The documentation's table has every panel, and only panels that exist.

Else: `python tests/monitoring/dashboards_page.py`."""

from __future__ import annotations

from pathlib import Path

from freehold.monitoring.dashboards.pages import dashboards

DOCS = Path(__file__).parents[2] / "docs" / "dashboards.md"


def test_every_query_of_every_panel_is_in_the_table_in_order() -> None:
    lines = DOCS.read_text().splitlines()
    rows = [line.split("`")[1] for line in lines if line.startswith("| ") and "`" in line]
    shown = [
        query.expression.replace("|", "\\|")
        for page in dashboards()
        for panel in page.panels
        for query in panel.queries
    ]
    assert rows == shown
