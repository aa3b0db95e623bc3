"""What the engines are asked to do, seen in their own counters."""

from __future__ import annotations

import time

import pytest
import redis

from .conftest import REDIS_PORT, LiveStack, text_of, until

pytestmark = pytest.mark.e2e

HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
EXTERNAL_HITS = "vllm:external_prefix_cache_hits_total"
EXTERNAL_QUERIES = "vllm:external_prefix_cache_queries_total"


def timed(stack: LiveStack, prompt: str, worker: str) -> tuple[float, int]:
    """Seconds that one pinned request took, and the tokens of its prompt."""
    started = time.monotonic()
    answer = stack.chat(prompt, worker=worker, max_tokens=1)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - started, answer.json()["usage"]["prompt_tokens"]


def wait_for_redis(tokens: int) -> None:
    """Stores are asynchronous: wait until there are as many chunks as the prompt has."""
    connection = redis.Redis(port=REDIS_PORT)

    def chunks() -> int:
        size = connection.dbsize()
        assert isinstance(size, int)
        return size

    until("the prompt's chunks are in Redis", lambda: chunks() >= tokens // 128)


def test_automatic_prefix_caching(stack: LiveStack) -> None:
    prompt = text_of(
        1800, "prefix caching"
    )  # hits are whole blocks of 128: of 20 one may be missing
    timed(stack, prompt, "chat-0")
    before = stack.metric("chat-0", HITS)
    _, tokens = timed(stack, prompt, "chat-0")
    assert stack.metric("chat-0", HITS) - before >= 0.9 * tokens


def test_a_prompt_seen_by_one_worker_is_found_by_the_other(stack: LiveStack) -> None:
    prompt = text_of(1100, "across workers")
    cold, tokens = timed(stack, prompt, "chat-0")
    wait_for_redis(tokens)
    before = stack.metric("chat-1", EXTERNAL_HITS)
    warm, _ = timed(stack, prompt, "chat-1")
    found = stack.metric("chat-1", EXTERNAL_HITS) - before
    print(f"{tokens} tokens: worker 1 cold {cold:.2f} s, worker 2 {warm:.2f} s, {found:.0f} found")
    assert found >= 0.9 * tokens
    assert warm < cold


def test_redis_serves_after_the_cache_server_restarts(stack: LiveStack) -> None:
    prompt = text_of(1100, "redis outlives lmcache")
    _, tokens = timed(stack, prompt, "chat-0")
    wait_for_redis(tokens)
    restart(stack, "cache")
    before = stack.metric("chat-1", EXTERNAL_HITS)

    def found() -> float:
        timed(stack, prompt + text_of(40, str(time.monotonic())), "chat-1")
        return stack.metric("chat-1", EXTERNAL_HITS) - before

    # The worker asks the new server as soon as its next heartbeat finds it.
    until("worker 2 loads worker 1's prompt from Redis", lambda: found() >= 0.9 * tokens, 60)


def restart(stack: LiveStack, name: str) -> None:
    """Kill a process and wait for the supervisor to have it healthy again."""
    import os
    import signal

    before = stack.pid(name)
    os.kill(before, signal.SIGKILL)

    def again() -> bool:
        process = stack.status()[name]
        return process["health"] == "healthy" and process["pid"] != before

    until(f"{name} is back", again, 120)


def test_ngram_speculation_accepts_tokens(stack: LiveStack) -> None:
    accepted = "vllm:spec_decode_num_accepted_tokens_total"
    before = stack.metric("assistant-0", accepted)
    answer = stack.chat(
        "one two three four one two three four one two three four",
        model="assistant",
        max_tokens=200,
        ignore_eos=True,
    )
    assert answer.status_code == 200, answer.text
    assert stack.metric("assistant-0", accepted) > before
