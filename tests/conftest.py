"""Which tests are quick and which run whole programs: `make test` leaves the second to `make test-long`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Whether the compiled picker happens to be built must not matter; `tests/picker` asks for it.
os.environ.setdefault("FREEHOLD_PICKER", "python")

# No test is timed: a clean checkout first makes tables of characters, which takes seconds on a busy machine.
settings.register_profile("freehold", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("freehold")

TESTS = Path(__file__).parent
# Recorded Pulumi programs of every stack, rule tests by promtool, load tests against a small server,
# simulated engines, the documentation: minutes together.
LONG = {
    *("cluster", "docs", "fork", "kubernetes", "load", "monitoring", "picker", "policy"),
    *("program", "recording", "serving", "simulator"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in LONG:
            item.add_marker("long")
