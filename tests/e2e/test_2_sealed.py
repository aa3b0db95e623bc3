"""Two tenants and one document: each finds its own in the engines' memory and in LMCache, never the
other's."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .conftest import OTHER, LiveStack, text_of, until

pytestmark = pytest.mark.e2e

OWN, SHARED = "vllm:prefix_cache_hits_total", "vllm:external_prefix_cache_hits_total"


def found(stack: LiveStack, prompt: str, worker: str, **more: Any) -> tuple[float, float]:
    """Shares of the prompt found in the worker's own memory, and in LMCache behind it."""
    before = [stack.metric(worker, name) for name in (OWN, SHARED)]
    answer = stack.chat(prompt, worker=worker, max_tokens=1, **more)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()["usage"]["prompt_tokens"]
    own, shared = (
        (stack.metric(worker, name) - earlier) / tokens
        for name, earlier in zip((OWN, SHARED), before, strict=True)
    )
    return own, shared


def test_a_tenant_finds_its_own_document_in_a_worker_and_no_other_does(stack: LiveStack) -> None:
    document = text_of(1800, "sealed")
    assert found(stack, document, "chat-0") == (0, 0)
    assert found(stack, document, "chat-0")[0] >= 0.9
    assert found(stack, document, "chat-0", tenant=OTHER) == (0, 0)


def test_a_salt_of_the_client_s_own_opens_nothing(stack: LiveStack) -> None:
    document = text_of(1800, "sealed, stolen")
    found(stack, document, "chat-0")
    assert found(stack, document, "chat-0", tenant=OTHER, cache_salt="tenant-default") == (0, 0)


def test_a_tenant_finds_its_own_document_in_lmcache_and_no_other_does(stack: LiveStack) -> None:
    def shared() -> str | None:
        """A new document, read by one worker and found by the other; stores take their time."""
        document = text_of(1800, f"sealed {time.monotonic()}")
        found(stack, document, "chat-0")
        time.sleep(1)
        return document if found(stack, document, "chat-1")[1] >= 0.8 else None

    document = until("LMCache gives a tenant's document to the other worker", shared)
    assert found(stack, document, "chat-1", tenant=OTHER) == (0, 0)
