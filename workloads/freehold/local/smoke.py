"""Every endpoint of a stack, once, through its gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from freehold.planning.plan import PoolPlan

# The first request of a cold CPU engine may compile kernels for a while.
_TIMEOUT = 120.0
_TOKENS = 8


@dataclass(frozen=True)
class SmokeResult:
    endpoint: str
    model: str
    status: int | None
    """HTTP status; None when no answer came."""
    milliseconds: float
    ok: bool
    detail: str


@dataclass(frozen=True)
class _Case:
    method: str
    path: str
    model: str
    body: dict[str, Any] | None
    check: Callable[[Any], str]
    """Takes the decoded answer, returns what to show; raises when the answer is not right."""
    status: int = 200
    keyed: bool = True
    stream: bool = False


def smoke(base_url: str, key: str, pools: Iterable[PoolPlan]) -> list[SmokeResult]:
    """Ask each endpoint that each pool serves, and three things that must be refused.

    `base_url` is without /v1. Never raises for a wrong answer: that is a result.
    """
    with httpx.Client(base_url=base_url, timeout=_TIMEOUT) as client:
        return [_try(client, key, case) for case in _cases(tuple(pools))]


def _cases(pools: tuple[PoolPlan, ...]) -> Iterator[_Case]:
    names = {name for pool in pools for name in (pool.name, *pool.adapters, *pool.aliases)}
    yield _Case("GET", "/v1/models", "", None, lambda answer: _served(answer, names))
    for pool in pools:
        if pool.hosted:
            yield from _chats(pool.name)
            continue
        yield from _ROLES[pool.role](pool.name)
        for adapter in pool.adapters:
            yield _chat(adapter)
    yield from _refusals(pools[0].name)


def _chats(model: str) -> Iterator[_Case]:
    yield _chat(model)
    yield _Case(
        "POST",
        "/v1/chat/completions",
        model,
        {**_chat_body(model), "stream": True, "stream_options": {"include_usage": True}},
        _streamed,
        stream=True,
    )


def _generate(model: str) -> Iterator[_Case]:
    say = "Say hello."
    yield from _chats(model)
    yield _Case(
        "POST",
        "/v1/completions",
        model,
        {"model": model, "prompt": say, "max_tokens": _TOKENS},
        lambda answer: _shorten(answer["choices"][0]["text"]),
    )
    yield _Case(
        "POST",
        "/v1/responses",
        model,
        {"model": model, "input": say, "max_output_tokens": _TOKENS},
        lambda answer: f"{answer['object']} {answer['status']}",
    )
    yield _Case(
        "POST",
        "/v1/messages",
        model,
        {
            "model": model,
            "max_tokens": _TOKENS,
            "messages": [{"role": "user", "content": say}],
        },
        lambda answer: f"{answer['type']}, {answer['usage']['output_tokens']} tokens",
    )
    yield _Case(
        "POST",
        "/tokenize",
        model,
        {"model": model, "prompt": say},
        lambda answer: f"{answer['count']} tokens",
    )
    yield _Case(
        "POST",
        "/detokenize",
        model,
        {"model": model, "tokens": [10, 11, 12]},
        lambda answer: _shorten(answer["prompt"]),
    )


def _embed(model: str) -> Iterator[_Case]:
    yield _Case(
        "POST",
        "/v1/embeddings",
        model,
        {"model": model, "input": ["a cat", "tax law"]},
        lambda answer: (
            f"{len(answer['data'])} vectors of {len(answer['data'][0]['embedding'])} dimensions"
        ),
    )


def _rerank(model: str) -> Iterator[_Case]:
    documents = ["Cats purr.", "Taxes are due in May."]
    for path in ("/v1/rerank", "/rerank"):
        yield _Case(
            "POST",
            path,
            model,
            {"model": model, "query": "cats", "documents": documents},
            lambda answer: f"{len(answer['results'])} documents ranked",
        )
    for path in ("/v1/score", "/score"):
        yield _Case(
            "POST",
            path,
            model,
            {"model": model, "queries": "cats", "documents": documents},
            lambda answer: f"{len(answer['data'])} scores",
        )


_ROLES: dict[str, Callable[[str], Iterator[_Case]]] = {
    "generate": _generate,
    "embed": _embed,
    "rerank": _rerank,
}


def _refusals(model: str) -> Iterator[_Case]:
    yield _Case("GET", "/v1/models", "no key", None, _refusal, status=401, keyed=False)
    yield _Case(
        "POST", "/v1/chat/completions", "unknown", _chat_body("no-such-model"), _refusal, status=404
    )
    yield _Case("GET", "/metrics", model, None, _refusal, status=404)


def _chat(model: str) -> _Case:
    return _Case(
        "POST",
        "/v1/chat/completions",
        model,
        _chat_body(model),
        lambda answer: _said(answer["choices"][0]["message"]),
    )


def _chat_body(model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say hello."}]
    return {"model": model, "messages": messages, "max_tokens": _TOKENS}


def _try(client: httpx.Client, key: str, case: _Case) -> SmokeResult:
    endpoint = f"{case.method} {case.path}" + (" (stream)" if case.stream else "")
    headers = {"authorization": f"Bearer {key}"} if case.keyed else {}
    status, started = None, time.monotonic()
    try:
        answer = client.request(case.method, case.path, json=case.body, headers=headers)
        status = answer.status_code
        if status != case.status:
            raise ValueError(f"expected {case.status}: {_shorten(answer.text, 120)}")
        detail, ok = case.check(answer.text if case.stream else answer.json()), True
    except httpx.HTTPError as error:
        detail, ok = f"no answer: {type(error).__name__} {error}", False
    except (ValueError, KeyError, IndexError, TypeError) as error:
        detail, ok = f"{type(error).__name__}: {error}", False
    elapsed = (time.monotonic() - started) * 1000
    return SmokeResult(endpoint, case.model, status, elapsed, ok, detail)


def _served(answer: Any, names: set[str]) -> str:
    served = {model["id"] for model in answer["data"]}
    if served != names:
        raise ValueError(f"lists {sorted(served)}, the plan serves {sorted(names)}")
    return ", ".join(sorted(served))


def _said(message: Any) -> str:
    """A model that reasons may still be at it when its eight tokens are over: text, but not content."""
    return _shorten(message["content"] or f"reasoning: {message.get('reasoning') or '...'}")


def _streamed(text: str) -> str:
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    if not events or events[-1] != "[DONE]":
        raise ValueError("the stream did not end with [DONE]")
    chunks = [json.loads(event) for event in events[:-1]]
    usage = next(chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage"))
    return f"{len(chunks)} events, {usage['completion_tokens']} tokens"


def _refusal(answer: Any) -> str:
    return _shorten(answer["error"]["message"], 80)


def _shorten(text: str, length: int = 40) -> str:
    """One line of printable text."""
    clean = "".join(c if c.isprintable() else " " for c in text).strip()
    return clean if len(clean) <= length else clean[: length - 1] + "…"
