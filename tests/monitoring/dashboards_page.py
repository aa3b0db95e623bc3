"""Writes docs/dashboards.md from a rehearsal: `.venv/bin/python tests/monitoring/dashboards_page.py`.

Takes about two minutes: simulated workers, the real gateway and Prometheus, a load that does not stop."""

from __future__ import annotations

import sys
import tempfile
from datetime import date
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "dashboards.md"
HEAD = """# Every panel of every dashboard

For who has no Grafana at hand: what each panel asks Prometheus, and what it answered in a rehearsal on
{day}. The stack is the preset `small` with three chat workers, a shared KV cache and nine clients; engines
are simulated, gateway, picker and Prometheus real, windows divided by {divisor}. "none" is a panel without
data there, with what it needs. A dashed line in Grafana, the plan's, is a row of its own here.

This page is written by `tests/monitoring/dashboards_page.py`, the dashboards themselves
(`observability/dashboards/*.json`) by `python -m freehold.monitoring.dashboards`.

"""


def main() -> None:
    sys.path.insert(0, str(TESTS))
    from monitoring.live_stack import DIVISOR, RATE_INTERVAL, running

    from freehold.monitoring.dashboards.table import markdown

    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as live:
        sections = markdown(live.prometheus, RATE_INTERVAL)
    PAGE.write_text(HEAD.format(day=date.today(), divisor=DIVISOR) + sections)


if __name__ == "__main__":
    main()
