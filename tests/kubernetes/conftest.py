"""One control plane for all tests of this folder: `make test-cluster`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .binaries import missing, version, why_not
from .control_plane import running
from .guest import make_room
from .kubeconfig import Unusable, client_of


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of the cluster that FREEHOLD_TEST_KUBECONFIG names, or else of one that is started here. The
    build of Kubernetes never begins by itself: only where it is asked for."""
    if given := os.environ.get("FREEHOLD_TEST_KUBECONFIG"):
        yield Path(given)
        return
    if "FREEHOLD_TEST_CLUSTER" not in os.environ:
        pytest.skip("a control plane is started by `make test-cluster` alone")
    if reason := why_not():
        pytest.skip(reason)
    if found := missing():
        print(f"Kubernetes {version()}: {', '.join(found)} to be built, about ten minutes, once")
    with running(tmp_path_factory.mktemp("kubernetes")) as own:
        yield own


@pytest.fixture(scope="session")
def client(kubeconfig: Path) -> Iterator[httpx.Client]:
    """An administrator's."""
    try:
        made = client_of(kubeconfig)
    except (OSError, Unusable) as error:
        pytest.exit(f"FREEHOLD_TEST_KUBECONFIG: {error}", returncode=2)
    with made, make_room(made, shared="FREEHOLD_TEST_SHARED_CLUSTER" in os.environ):
        yield made
