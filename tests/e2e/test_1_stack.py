"""One command brings the whole platform up: what runs, what it answers, what it prints."""

from __future__ import annotations

import ipaddress
import math

import httpx
import psutil
import pytest

from .conftest import PROMETHEUS_PORT, LiveStack, until

pytestmark = pytest.mark.e2e


def test_everything_runs_and_is_healthy(stack: LiveStack) -> None:
    status = stack.status()
    assert {p["health"] for p in status.values()} == {"healthy"}
    engines = {name: p["pool"] for name, p in status.items() if p["role"] == "engine"}
    assert engines == {
        "chat-0": "chat",
        "chat-1": "chat",
        "assistant-0": "assistant",
        "embed-0": "embed",
        "rerank-0": "rerank",
    }
    others = {"redis", "cache", "gateway", "picker", "prometheus", "supervisor"}
    assert others == status.keys() - engines.keys()


def test_the_output_tells_how_to_use_it(stack: LiveStack) -> None:
    output: str = stack.output  # type: ignore[attr-defined]
    for words in (
        f"{stack.base_url}/v1",
        ".freehold/local/api-key",
        "curl -N",
        "from openai import OpenAI",
        "gibberish",
    ):
        assert words in output


def test_smoke_passes(stack: LiveStack) -> None:
    done = stack.freehold("smoke")
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout


def test_a_streamed_chat_with_the_openai_client(stack: LiveStack) -> None:
    chunks = list(
        stack.openai.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            max_tokens=16,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 16
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 1


def test_embeddings_mean_something(stack: LiveStack) -> None:
    def vector(text: str) -> list[float]:
        return stack.openai.embeddings.create(model="embed", input=text).data[0].embedding

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / (math.hypot(*a) * math.hypot(*b))

    cat, kitten, law = vector("a cat"), vector("a kitten"), vector("tax law")
    assert cosine(cat, kitten) > 0.6 > 0.4 > cosine(cat, law)


def test_rerank_scores_every_document(stack: LiveStack) -> None:
    answer = httpx.post(
        f"{stack.base_url}/v1/rerank",
        json={"model": "rerank", "query": "cats", "documents": ["a", "b", "c"]},
        headers={"authorization": f"Bearer {stack.key}"},
        timeout=60,
    )
    assert sorted(result["index"] for result in answer.json()["results"]) == [0, 1, 2]


def test_prometheus_scrapes_every_engine(stack: LiveStack) -> None:
    def up() -> bool:
        answer = httpx.get(
            f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/query", params={"query": "up"}
        )
        found = {
            (s["metric"].get("worker") or s["metric"]["job"]): s["value"][1]
            for s in answer.json()["data"]["result"]
        }
        wanted = {"chat-0", "chat-1", "assistant-0", "embed-0", "rerank-0", "gateway", "cache"}
        return wanted <= found.keys() and set(found.values()) == {"1"}

    until("every target is up", up, 30)


def test_engines_and_admin_listen_on_loopback_only(stack: LiveStack) -> None:
    ours = {p["pid"] for p in stack.status().values()}
    children = {c.pid for pid in ours for c in psutil.Process(pid).children(recursive=True)}
    listening = [
        ipaddress.ip_address(c.laddr.ip)  # pyright: ignore[reportAttributeAccessIssue]
        for c in psutil.net_connections("inet")
        if c.status == psutil.CONN_LISTEN and c.pid in ours | children
    ]
    assert listening
    for address in listening:  # gRPC binds IPv4 addresses in their IPv6 form
        assert (getattr(address, "ipv4_mapped", None) or address).is_loopback, address
