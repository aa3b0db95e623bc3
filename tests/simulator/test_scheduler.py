"""The scheduler, in virtual time: batching, chunks, prefix cache, preemption, limits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.simulator.blocks import BlockPool, chain_of, root_of
from freehold.simulator.request import Request
from freehold.simulator.scheduler import Limits, Scheduler, Step
from freehold.simulator.tokens import Answer
from freehold.simulator.virtual import Measured, closed_loop


class _Silent:
    def produced(self, request: Request, count: int) -> None: ...

    def finished(self, request: Request) -> None: ...


def ask(text: str, tokens: int = 4, salt: str = "", adapter: str = "") -> Request:
    return Request(
        text.encode(),
        Answer.words(0, tokens),
        _Silent(),
        block_size=16,
        root=root_of(salt, adapter),
        max_tokens=tokens,
    )


def run(scheduler: Scheduler, *requests: Request) -> list[Step]:
    """All steps until nothing is left."""
    for request in requests:
        scheduler.add(request)
    steps = []
    while step := scheduler.step(0.0):
        steps.append(step)
        scheduler.complete(step, 0.0)
    assert not scheduler.unfinished
    return steps


def words(tokens: int, seed: int = 0) -> str:
    return Answer.words(seed, tokens).text


def test_a_step_holds_decodes_and_a_chunk_of_a_prompt_within_the_token_budget() -> None:
    scheduler = Scheduler(Limits(max_num_batched_tokens=64, blocks=100))
    first, second = ask(words(10), tokens=9), ask(words(150, seed=1))
    scheduler.add(first)
    scheduler.complete(scheduler.step(0.0), 0.0)
    steps = run(scheduler, second)
    chunks = [count for step in steps for request, count in step.prefills if request is second]
    assert chunks == [63, 63, 24]  # one token of each step is the other's
    assert all(step.prefill_tokens + len(step.decodes) <= 64 for step in steps)
    assert steps[1].prefill_pairs == 63 * (63 + 63 / 2)
    assert steps[0].decodes == [first] and steps[0].decode_context == 11


def test_no_more_sequences_run_than_allowed() -> None:
    scheduler = Scheduler(Limits(max_num_seqs=2, blocks=100))
    steps = run(scheduler, *(ask(words(5, seed), tokens=3) for seed in range(5)))
    assert max(len(step.decodes) + len(step.prefills) for step in steps) == 2


def test_a_repeated_prompt_is_computed_from_its_last_whole_block_on() -> None:
    scheduler = Scheduler(Limits(blocks=100))
    run(scheduler, ask(words(100)))
    again = ask(words(100))
    run(scheduler, again)
    assert again.cached == 96
    assert (scheduler.counts.prefix_queries, scheduler.counts.prefix_hits) == (200, 96)


def test_one_token_of_a_prompt_is_always_computed() -> None:
    scheduler = Scheduler(Limits(blocks=100))
    run(scheduler, ask(words(64)))
    again = ask(words(64))
    run(scheduler, again)
    assert again.cached == 48


def test_the_answer_is_found_when_the_conversation_goes_on() -> None:
    scheduler = Scheduler(Limits(blocks=100))
    asked = ask(words(40), tokens=60)
    run(scheduler, asked)
    assert asked.answer
    following = ask(words(40) + asked.answer.text + words(30, seed=7))
    run(scheduler, following)
    # The last token is never computed: 99 of 100 are in whole blocks up to 96.
    assert following.cached == 96


def test_salt_and_adapter_have_caches_of_their_own() -> None:
    scheduler = Scheduler(Limits(blocks=200))
    run(scheduler, ask(words(100), salt="a"))
    for salt, adapter, hits in (("b", "", 0), ("", "", 0), ("a", "lora", 0), ("a", "", 96)):
        request = ask(words(100), salt=salt, adapter=adapter)
        run(scheduler, request)
        assert request.cached == hits, (salt, adapter)


def test_without_prefix_caching_nothing_is_found() -> None:
    scheduler = Scheduler(Limits(blocks=100, prefix_caching=False))
    run(scheduler, ask(words(100)))
    again = ask(words(100))
    run(scheduler, again)
    assert again.cached == 0 and scheduler.counts.prefix_queries == 0


def test_the_least_recently_used_blocks_go_first_and_a_prompt_s_end_before_its_beginning() -> None:
    pool = BlockPool(4)
    assert pool.take(4)
    old, new = chain_of(b"x" * 128, 64, 1), chain_of(b"y" * 128, 64, 1)
    assert all(pool.publish(block) for block in (*old, *new))
    pool.release(old, 0)
    pool.release(new, 0)
    assert pool.available == 4
    assert pool.take(1)
    assert (pool.match(old), pool.match(new)) == (1, 2)
    assert pool.take(2)
    assert (pool.match(old), pool.match(new)) == (0, 1)
    assert not pool.take(2)


def test_withheld_memory_takes_cached_blocks_and_those_that_are_given_back() -> None:
    pool = BlockPool(10)
    assert pool.take(6)
    cached = [1, 2, 3]
    assert all(pool.publish(block) for block in cached)
    pool.release(cached, 0)  # three idle, three in use, four free
    pool.reserve(6)
    assert pool.available == 1 and pool.match(cached) == 1
    assert not pool.take(2) and pool.take(1) and pool.usage == 1
    pool.reserve(9)
    pool.release([], 4)
    assert pool.available == 1 and pool.usage == pytest.approx(0.9)
    pool.reserve(0)
    assert pool.available == 10 and pool.usage == 0


def test_memory_that_runs_out_preempts_the_latest_and_it_is_computed_again() -> None:
    scheduler = Scheduler(Limits(blocks=8, max_model_len=128))
    first, second = ask(words(40), tokens=60), ask(words(40, seed=3), tokens=60)
    run(scheduler, first, second)
    assert (first.preemptions, second.preemptions >= 1) == (0, True)
    assert scheduler.counts.preemptions == second.preemptions
    assert first.output == second.output == 60
    assert scheduler.pool.available == 8


def test_speculation_yields_its_mean_of_tokens_a_step() -> None:
    scheduler = Scheduler(Limits(blocks=400, draft_tokens=3, tokens_per_step=2.5), seed=1)
    request = ask(words(10), tokens=4000)
    steps = run(scheduler, request)
    assert request.output == 4000
    assert 4000 / len(steps) == approximately(2.5)
    counts = scheduler.counts
    assert counts.draft_tokens == 3 * counts.drafts
    assert counts.accepted_tokens / counts.drafts == approximately(1.5)


def test_what_was_dropped_holds_nothing() -> None:
    scheduler = Scheduler(Limits(blocks=20, max_num_seqs=1))
    running, waiting = ask(words(40), tokens=50), ask(words(40))
    scheduler.add(running)
    scheduler.add(waiting)
    step = scheduler.step(0.0)
    scheduler.drop(running)
    scheduler.drop(waiting)
    assert scheduler.complete(step, 0.0) == []
    assert scheduler.unfinished == 0 and scheduler.pool.available == 20


def test_tokens_of_the_shared_tier_are_not_computed() -> None:
    loads: list[tuple[Request, int]] = []
    scheduler = Scheduler(Limits(blocks=100), load=lambda r, n: loads.append((r, n)))
    request = ask(words(200))
    request.external = 192
    scheduler.add(request)
    assert not scheduler.step(0.0)
    assert loads == [(request, 192)] and scheduler.unfinished == 1
    scheduler.loaded(request, 192)
    steps = run(scheduler)
    assert steps[0].prefills == [(request, 8)]
    assert (request.cached, request.external) == (192, 192)
    again = ask(words(200))  # now the worker has it itself
    run(scheduler, again)
    assert again.cached == 192


def test_a_load_that_failed_is_computed() -> None:
    scheduler = Scheduler(Limits(blocks=100), load=lambda request, count: None)
    request = ask(words(200))
    request.external = 192
    scheduler.add(request)
    scheduler.step(0.0)
    scheduler.loaded(request, 0)
    steps = run(scheduler)
    assert steps[0].prefills == [(request, 200)] and request.cached == 0


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(12, 40), st.booleans())
def test_blocks_are_never_lost_and_every_token_is_produced(
    seed: int, blocks: int, speculative: bool
) -> None:
    """Random load on little memory, with requests that leave in the middle."""
    chance = random.Random(seed)
    scheduler = Scheduler(
        Limits(
            blocks=blocks,
            max_num_seqs=5,
            max_num_batched_tokens=48,
            max_model_len=blocks * 16,
            draft_tokens=2 if speculative else 0,
            tokens_per_step=1.7 if speculative else 1.0,
        )
    )
    requests: list[Request] = []
    for _ in range(200):
        if chance.random() < 0.5 and len(requests) < 40:
            request = ask(words(chance.randint(1, 90), chance.randint(0, 3)), chance.randint(1, 60))
            requests.append(request)
            scheduler.add(request)
        step = scheduler.step(0.0)
        if chance.random() < 0.1 and requests:
            scheduler.drop(chance.choice(requests))
        scheduler.complete(step, 0.0)
        held = sum(request.private for request in requests)
        shared = {block for request in requests for block in request.shared}
        assert scheduler.pool.available + held + len(shared) == blocks
    run(scheduler)
    assert scheduler.pool.available == blocks
    for request in requests:
        assert request.finish == "abort" or request.output == request.limit


# --- Virtual time -------------------------------------------------------------------------------------


def load(requests: int, **limits: Any) -> list[Measured]:
    def some() -> Iterator[Request]:
        for seed in range(requests):
            yield ask(f"{seed:04}" * 256, tokens=64)

    scheduler = Scheduler(Limits(blocks=10_000, **limits))
    return list(closed_loop(scheduler, _line, some(), concurrency=8))


def _line(step: Step) -> float:
    return 0.010 + 0.001 * len(step.decodes) + 0.0001 * step.prefill_tokens


def test_a_lone_request_takes_what_its_steps_take() -> None:
    scheduler = Scheduler(Limits())
    (one,) = closed_loop(scheduler, _line, iter([ask(words(100), tokens=11)]), concurrency=1)
    assert one.ttft == approximately(0.010 + 0.010)
    assert one.tpot == approximately(0.011)


def test_more_in_flight_makes_every_token_slower() -> None:
    busy = load(32)
    assert len(busy) == 32
    assert min(one.tpot for one in busy) > 0.011


def test_requests_that_wait_for_a_seat_wait_longer_for_their_first_token() -> None:
    waiting, free = load(32, max_num_seqs=2), load(32)
    assert max(one.ttft for one in waiting) > 2 * max(one.ttft for one in free)


def approximately(value: float) -> Any:
    return pytest.approx(value, rel=0.05)
