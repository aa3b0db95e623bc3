"""Clients that do nothing wrong, at all four endpoints. What happens to them is what counts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from freehold.load.client import Call, StreamingClient
from freehold.load.record import RequestRecord

from ..routing.workloads import Writer
from .site import KEY, POOLED_SEATS, SEATS, WORKERS, Site

OUTPUT_TOKENS = 24
# As many prompts as fill no cache: what grows in a soak is then no cache that fills.
_PROMPTS = 64
_PROMPT_TOKENS = 250
# So many requests in a hundred come on a new connection: who waits for one is seen too.
_NEW_CONNECTIONS = 20


class Traffic:
    """As many clients as the engines have seats; each waits for an answer for a share `busy` of its time,
    and thinks for the rest."""

    def __init__(self, site: Site, busy: float) -> None:
        self._client = StreamingClient(site.url, KEY)
        self._think = 1 / busy - 1
        self._random = random.Random(0)
        self.records: list[RequestRecord] = []
        seats = WORKERS * SEATS
        self._clients = [
            gevent.spawn(self._go_on, calls)
            for calls, count in (
                (_endless(_chat), seats // 2),
                (_endless(_completion), seats // 2),
                (_endless(_embedding), POOLED_SEATS),
                (_endless(_rerank), POOLED_SEATS),
            )
            for _ in range(count)
        ]

    def stop(self) -> None:
        gevent.killall(self._clients)
        self._client.close()

    def _go_on(self, calls: Iterator[Call]) -> None:
        for call in calls:
            if self._random.randrange(100) < _NEW_CONNECTIONS:
                call.headers["connection"] = "close"
            record = self._client.send(call)
            self.records.append(record)
            gevent.sleep((record.latency or 0.1) * self._think * self._random.uniform(0.5, 1.5))


def _endless(make: Callable[[str], Call]) -> Iterator[Call]:
    writer = Writer(0)
    prompts = [writer.text(_PROMPT_TOKENS) for _ in range(_PROMPTS)]
    return (make(prompt) for prompt in itertools.cycle(prompts))


def _chat(prompt: str) -> Call:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "stream": True}
    return Call("chat", "/v1/chat/completions", "chat", body | {"max_tokens": OUTPUT_TOKENS})


def _completion(prompt: str) -> Call:
    body = {"prompt": prompt, "max_tokens": OUTPUT_TOKENS, "stream": True}
    return Call("completions", "/v1/completions", "chat", body)


def _embedding(prompt: str) -> Call:
    return Call("embeddings", "/v1/embeddings", "embed", {"input": [prompt]}, streamed=False)


def _rerank(prompt: str) -> Call:
    body = {"query": prompt[:40], "documents": [prompt[:400], prompt[400:]]}
    return Call("rerank", "/v1/rerank", "rerank", body, streamed=False)
