"""A gateway as a client sees it: a base URL, a key, the pools behind it. Nothing here knows stubs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

Json = dict[str, Any]


@dataclass(frozen=True)
class Door:
    """`base_url` without `/v1`. The pools are named by their role."""

    base_url: str
    key: str
    generate: str = "chat"
    embed: str = "embed"
    rerank: str = "rerank"
    adapter: str | None = None
    """A LoRA adapter of the generate pool."""
    max_body_bytes: int = 32 * 2**20

    @cached_property
    def client(self) -> httpx.Client:
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
        return httpx.Client(base_url=self.base_url, timeout=60, limits=limits)

    def headers(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", **(extra or {})}

    def post(
        self, path: str, body: Json | bytes, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        sent = self.headers({"content-type": "application/json", **(headers or {})})
        if isinstance(body, bytes):
            return self.client.post(path, content=body, headers=sent)
        return self.client.post(path, json=body, headers=sent)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.client.get(path, headers=self.headers(headers))

    def chat(self, text: str = "hello", **fields: Any) -> Json:
        messages = [{"role": "user", "content": text}]
        return {"model": self.generate, "messages": messages, "max_tokens": 4, **fields}


def fresh_id() -> str:
    return str(uuid.uuid4())


def expect_error(response: httpx.Response, status: int, *words: str) -> Json:
    """An OpenAI error object with this status, whose message has these words."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:300]}"
    assert response.headers["content-type"].startswith("application/json")
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}, error
    for word in words:
        assert word in error["message"], f"{word!r} not in {error['message']!r}"
    return error
