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


def told_redis(stack: LiveStack, prompt: str) -> tuple[float, int]:
    """Worker 1 reads the prompt, and its chunks get to Redis, which takes a moment more: seconds, tokens."""
    before = chunks_in_redis()
    seconds, tokens = timed(stack, prompt, "chat-0")
    wanted = before + tokens // 128
    until("the prompt's chunks are in Redis", lambda: chunks_in_redis() >= wanted)
    return seconds, tokens


def chunks_in_redis() -> int:
    size = redis.Redis(port=REDIS_PORT).dbsize()
    assert isinstance(size, int)
    return size


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
    cold, tokens = told_redis(stack, prompt)
    before = stack.metric("chat-1", EXTERNAL_HITS)
    warm, _ = timed(stack, prompt, "chat-1")
    found = stack.metric("chat-1", EXTERNAL_HITS) - before
    print(f"{tokens} tokens: worker 1 cold {cold:.2f} s, worker 2 {warm:.2f} s, {found:.0f} found")
    assert found >= 0.9 * tokens
    assert warm < cold


def test_redis_serves_after_the_cache_server_restarts(stack: LiveStack) -> None:
    # The worker asks the new server as soon as its next heartbeat finds it. What it was asked before that
    # lies in its own memory from then on: a new prompt for each try.
    prompts = [text_of(1100, f"redis outlives lmcache, {n}") for n in range(6)]
    tokens = [told_redis(stack, prompt)[1] for prompt in prompts]
    restart(stack, "cache")
    tries = zip(prompts, tokens, strict=True)

    def found() -> bool:
        prompt, wanted = next(tries)
        before = stack.metric("chat-1", EXTERNAL_HITS)
        timed(stack, prompt, "chat-1")
        if stack.metric("chat-1", EXTERNAL_HITS) - before >= 0.9 * wanted:
            return True
        time.sleep(10)
        return False

    until("worker 2 loads worker 1's prompt from Redis", found, 60)


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
