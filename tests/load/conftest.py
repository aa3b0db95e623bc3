"""What the load tests' own tests share: synthetic records, and the deterministic server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from freehold.load.client import Call, StreamingClient
from freehold.load.deterministic import deterministic_server
from freehold.load.record import RequestRecord


def record(
    started: float = 0.0,
    ttft: float | None = 0.1,
    itls: tuple[float, ...] = (0.01, 0.01, 0.01),
    **more: object,
) -> RequestRecord:
    """A request that went well, of one token an event, unless told otherwise."""
    known: dict[str, object] = {
        "name": "chat",
        "latency": None if ttft is None else ttft + sum(itls),
        "prompt_tokens": 100,
        "asked_input": 100,
        "output_tokens": len(itls) + 1,
        "asked_output": len(itls) + 1,
        "status": 200,
    }
    return RequestRecord(**{**known, **more}, started=started, ttft=ttft, itls=list(itls))  # type: ignore[arg-type]


def chat(tokens: int = 8, text: str = "how are you", **more: object) -> Call:
    body = {
        "messages": [{"role": "user", "content": text}],
        "max_completion_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Call("chat", "/v1/chat/completions", "deterministic", body, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with deterministic_server("--ttft-ms", "30", "--itl-ms", "5") as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[StreamingClient]:
    made = StreamingClient(server, None, timeout=10)
    yield made
    made.close()
