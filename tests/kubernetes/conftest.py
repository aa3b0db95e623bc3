"""One control plane for all tests of this folder: `make test-cluster`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from .binaries import missing, version, why_not
from .control_plane import running


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An administrator's client. The build of Kubernetes never begins by itself: only where it is
    asked for, or where the programs are there."""
    if "FREEHOLD_TEST_CLUSTER" not in os.environ:
        pytest.skip("a control plane is started by `make test-cluster` alone")
    if reason := why_not():
        pytest.skip(reason)
    if found := missing():
        print(f"Kubernetes {version()}: {', '.join(found)} to be built, about ten minutes, once")
    with running(tmp_path_factory.mktemp("kubernetes")) as plane, plane.client() as made:
        yield made
