"""The compiled picker is built once, where Go is at hand."""

from __future__ import annotations

import pytest

from freehold.gateway import compiled


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    if reason := compiled.why_not():
        pytest.skip(reason)
    compiled.build()
