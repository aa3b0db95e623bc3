"""`pulumi up -s local` with the real engine: processes come up, change, are looked at and go.

With simulated engines everywhere; once more with vLLM where it is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ports import free_row
from program.engine import NEEDS_PULUMI, PACK, Engine, names
from program.programs import ROOT

pytestmark = NEEDS_PULUMI

VLLM = pytest.param(
    "vllm",
    marks=[
        pytest.mark.vllm,
        pytest.mark.skipif(not (ROOT / ".venv" / ".cpu").exists(), reason="make env-cpu"),
    ],
)


@pytest.fixture(params=["simulated", VLLM])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine.of(tmp_path, "local")
    gateway, engines = _ports()
    engine.change(
        {
            "target": {"engine": request.param},
            "gateway": {"port": gateway},
            "engine_ports_from": engines,
            # Their programs would be fetched, and have tests of their own.
            "cache": None,
            "observability": {"prometheus": None},
        }
    )
    try:
        yield engine
    finally:
        engine.attempt("destroy", "--yes", "--skip-preview")


def _ports() -> tuple[int, int]:
    """Two, each with free ones after it for what belongs together."""
    ports = free_row(200)
    runs = [p for place, p in enumerate(ports) if ports[place + 20 : place + 21] == [p + 20]]
    return runs[0], next(port for port in runs if port >= runs[0] + 20)


def test_the_laptop_s_stack_comes_up_changes_and_goes(local: Engine) -> None:
    local.up("--policy-pack", str(PACK))
    url = json.loads(local.run("stack", "output", "--json"))["baseUrl"]
    key = (local.project / ".freehold" / "local" / "api-key").read_text().strip()
    client = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=30)
    served = {model["id"] for model in client.get(f"{url}/models").json()["data"]}
    assert served == {"chat", "embed", "rerank"}
    assert local.preview() == []
    local.run("refresh", "--yes", "--skip-preview")
    assert local.preview() == []

    question = {"model": "chat", "messages": [{"role": "user", "content": "a" * 2**21}]}
    assert client.post(f"{url}/chat/completions", json=question).status_code != 413
    local.change({"gateway": {"max_body_mib": 1}})
    assert names(local.preview(), "update") == {"processes"}
    local.up()
    assert client.post(f"{url}/chat/completions", json=question).status_code == 413

    local.destroy()
    assert local.resources() == []
    with pytest.raises(httpx.ConnectError):
        client.get(f"{url}/models")
