"""The model folders, and the pinned vLLM on a CPU and as if on an H100."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import shapes
from .pinned import Pinned


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    shapes.write(root)
    return root


@pytest.fixture(scope="session")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinned]:
    """One import of vLLM for all tests; no engine is started and no weights are read."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_CACHE_ROOT": str(tmp_path_factory.mktemp("vllm")),
        }.items():
            patch.setenv(name, value)
        yield Pinned(patch)
