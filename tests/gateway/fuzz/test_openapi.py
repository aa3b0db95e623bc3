"""What the pinned vLLM says of its own endpoints, tried; and its paths that nobody may reach."""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from freehold.catalog.release import load_release
from freehold.gateway.endpoints import ALL, ENDPOINTS
from freehold.gateway.model import Role

from ..running import Bench
from . import openapi
from .attacked import arrived, ask, examples, expect_sound
from .wire import request, send

_MODELS: dict[Role, list[str]] = {
    "generate": ["chat", "lora", "gpt-4o"],
    "embed": ["embed"],
    "rerank": ["rerank"],
}
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
# What breaks a schema's rules is tried when more is asked for: schemathesis takes a minute to prepare it.
_MODES = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if examples(1) > 1 else [])]


@pytest.mark.vllm
def test_the_description_is_the_installed_engine_s(tmp_path: Path) -> None:
    """In a process of its own: what other tests import changes vLLM's schemas."""
    written = tmp_path / "openapi.json"
    subprocess.run([sys.executable, openapi.__file__, written], check=True)
    assert json.loads(written.read_text()) == openapi.load()


def test_the_description_is_of_the_release() -> None:
    assert openapi.load()["info"]["version"] == load_release().vllm


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_no_other_path_of_the_engine_is_reached(gateway: Bench, method: str) -> None:
    for path in openapi.load()["x-other-paths"]:
        for spelling in (
            path,
            f"{path}?model=chat",
            f"/v1{path}",
            f"/v1/chat/completions/..{path}",
        ):
            answers = send(gateway.gateway.port, request(spelling, method))
            expect_sound(answers)
            assert [answer.status for answer in answers] == [404], (spelling, answers)
    assert not arrived(gateway)


@cache
def _cases(path: str, mode: GenerationMode) -> st.SearchStrategy[Any]:
    return schemathesis.openapi.from_dict(openapi.load())[path]["POST"].as_strategy(
        generation_mode=mode
    )


def _models_of(path: str) -> list[str]:
    return [name for role, names in _MODELS.items() if path in ENDPOINTS[role] for name in names]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("gateway", ["picker", "plain"], indirect=True)
@pytest.mark.parametrize("mode", _MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ALL)
def test_what_the_description_allows(gateway: Bench, path: str, mode: GenerationMode) -> None:
    served = 0

    @settings(
        max_examples=examples(20),
        derandomize=True,
        database=None,
        suppress_health_check=_SLOW,
    )
    @given(case=_cases(path, mode), model=st.sampled_from(_models_of(path)))
    def attack(case: Any, model: str) -> None:
        nonlocal served
        body = {**case.body, "model": model} if isinstance(case.body, dict) else case.body
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = ask(gateway, data, path)
        assert len(arrived(gateway)) == (answer.status == 200), answer
        served += answer.status == 200

    attack()
    assert served, "nothing came through: this shows nothing"
