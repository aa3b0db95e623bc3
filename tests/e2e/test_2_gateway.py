"""The gateway suite's client side, this time before the real engines."""

from __future__ import annotations

import pytest
from gateway import conformance
from gateway.cases import Case
from gateway.door import Door

from .conftest import LiveStack

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("case", conformance.suite.cases, ids=lambda case: case.name)
def test_holds_before_real_engines(stack: LiveStack, case: Case[Door]) -> None:
    case.run(Door(stack.base_url, stack.key))
