"""vLLM's real router behind the real gateway, before stub engines: one that reads, one that writes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from ports import free_ports

from freehold.gateway.model import ROUTER_HEALTH, ApiKey, Gateway, Pool, Worker
from freehold.gateway.prefill_decode import PrefillDecode, router_arguments, router_program

from .door import Door
from .running import KEY, envoy_process, is_ready, until
from .stub_engine import StubEngine

pytestmark = pytest.mark.vllm  # vllm-router is installed with the engine

HANDOFF = {
    "remote_engine_id": "a",
    "remote_block_ids": [1, 2],
    "remote_host": "h",
    "remote_port": 1,
}


@pytest.fixture
def engines() -> Iterator[dict[str, StubEngine]]:
    pair = {role: StubEngine(role, ("chat",)) for role in ("prefill", "decode")}
    pair["prefill"].handoff = HANDOFF
    for engine in pair.values():
        engine.start()
    yield pair
    for engine in pair.values():
        engine.stop()


@pytest.fixture
def door(engines: dict[str, StubEngine], tmp_path: Path) -> Iterator[Door]:
    requests, metrics, port, admin = free_ports(4)
    pair = PrefillDecode(
        address=("127.0.0.1", requests),
        metrics=("127.0.0.1", metrics),
        prefill=(("127.0.0.1", engines["prefill"].port),),
        decode=(("127.0.0.1", engines["decode"].port),),
    )
    gateway = Gateway(
        port=port,
        admin_port=admin,
        pools=(
            Pool(
                "chat",
                "generate",
                ("chat",),
                (Worker("chat-router", *pair.address),),
                policy="least_request",
                health_path=ROUTER_HEALTH,
            ),
        ),
        keys=(ApiKey(KEY),),
        sealed=True,
    )
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "router.log").open("wb"))
        router = subprocess.Popen(
            [router_program(), *router_arguments(pair)], stdout=log, stderr=log, cwd=tmp_path
        )
        stack.callback(router.wait)
        stack.callback(router.kill)
        stack.enter_context(envoy_process(gateway, tmp_path))
        until(lambda: is_ready(gateway) and _healthy(requests), 60)
        yield Door(f"http://127.0.0.1:{port}", KEY)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_is_read_by_one_engine_and_answered_by_the_other(
    door: Door, engines: dict[str, StubEngine], stream: bool
) -> None:
    answer = door.post("/v1/chat/completions", door.chat(max_tokens=7, stream=stream))
    assert answer.status_code == 200, answer.text
    assert "decode" in answer.text
    [read] = [seen for seen in engines["prefill"].seen if seen.path == "/v1/chat/completions"]
    [wrote] = [seen for seen in engines["decode"].seen if seen.path == "/v1/chat/completions"]
    assert read.json["max_tokens"] == 1 and read.json["kv_transfer_params"]["do_remote_decode"]
    assert wrote.json["max_tokens"] == 7
    assert read.json["cache_salt"] == wrote.json["cache_salt"] == "tenant-default"
    handed = wrote.json["kv_transfer_params"]
    assert {key: handed[key] for key in HANDOFF} == HANDOFF


def test_the_gateway_stays_the_door(door: Door) -> None:
    """What the router would pass on to an engine, without a key, ends here."""
    assert door.get("/metrics").status_code == 404
    assert door.client.post("/v1/chat/completions", json=door.chat()).status_code == 401
