"""One sound gateway with the picker and one without, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .running import Bench, Engines, running_gateway


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    engines = Engines()
    engines.start()
    yield engines
    engines.stop()


@pytest.fixture(scope="session")
def with_picker(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_gateway(engines, tmp_path_factory.mktemp("picker"), picker=True) as bench:
        yield bench


@pytest.fixture(scope="session")
def without_picker(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_gateway(engines, tmp_path_factory.mktemp("plain")) as bench:
        yield bench
