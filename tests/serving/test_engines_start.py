"""The pools' own command lines, with the image's engine replaced by the simulated one, serve."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from .programs import STACKS, container, program_of
from .test_gateway import free_ports

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
    "embed": ("/v1/embeddings", {"input": "hello"}),
    "rerank": ("/v1/rerank", {"query": "hello", "documents": ["hello", "tax law"]}),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("stack", STACKS)
def test_starts_serves_and_goes(stack: str, name: str) -> None:
    engine = container(program_of(stack), "Deployment", name, "engine")
    (port,) = free_ports(1)
    arguments = [*engine["args"]]
    arguments[arguments.index("--host") + 1] = "127.0.0.1"
    arguments[arguments.index("--port") + 1] = str(port)
    process = subprocess.Popen(
        [sys.executable, "-m", "freehold.simulator", *arguments], stdout=subprocess.DEVNULL
    )
    try:
        path, body = ASKED[name]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            healthy(client, process, engine["readinessProbe"]["httpGet"]["path"])
            assert client.post(path, json={"model": name, "max_tokens": 2, **body}).is_success
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


def healthy(client: httpx.Client, process: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the engine refused its command line"
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError("no healthy answer in 60 s")
