"""Real gateways before strict engines: with either picker, without, and with one cache for all tenants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..running import Bench, running_gateway
from .attacked import strict_engines, unharmed

KINDS = (
    "picker",
    *(pytest.param(kind, marks=pytest.mark.long) for kind in ("python", "plain", "unsealed")),
)


@pytest.fixture(scope="session", params=KINDS)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    kind: str = request.param
    picker, sealed = kind in ("picker", "python"), kind != "unsealed"
    folder = tmp_path_factory.mktemp(kind)
    with pytest.MonkeyPatch.context() as patch:
        if kind == "python":  # also where the compiled picker has been built
            patch.setenv("FREEHOLD_PICKER", "python")
        with (
            strict_engines(sealed) as engines,
            running_gateway(engines, folder, picker=picker, sealed=sealed) as bench,
        ):
            yield bench


@pytest.fixture(autouse=True)
def _unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each case: nothing has arrived that must not, and both processes are well."""
    yield
    if "gateway" in request.fixturenames:
        unharmed(request.getfixturevalue("gateway"))
