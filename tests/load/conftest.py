"""What the load tests' own tests share: synthetic records, and the deterministic server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from freehold.load.client import Call, StreamingClient
from freehold.load.deterministic import count_tokens, deterministic_server
from freehold.load.record import RequestRecord
from freehold.load.traffic import TextMaker
from freehold.load.traffic.corpus import make_corpus
from freehold.load.traffic.sessions import TOOLS
from freehold.load.traffic.text import Template


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


class WordTokens:
    """A word is a token, as the deterministic server counts."""

    exact = True

    def count(self, text: str) -> int:
        return len(text.split())

    def count_chat(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> int:
        return count_tokens({"messages": messages, **({"tools": tools} if tools else {})})


@pytest.fixture(scope="session")
def words() -> TextMaker:
    counter = WordTokens()
    return TextMaker(make_corpus(counter.count), Template.measured(counter, TOOLS), "salt")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with deterministic_server("--ttft-ms", "30", "--itl-ms", "5") as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[StreamingClient]:
    made = StreamingClient(server, None, timeout=10)
    yield made
    made.close()
