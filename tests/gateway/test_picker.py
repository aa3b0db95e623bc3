"""The picker's policy and its idea of a prompt, as plain functions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from freehold.gateway.picker.index import PrefixIndex
from freehold.gateway.picker.policy import LOAD_FACTOR, Worker, by_prefix, by_session, with_room
from freehold.gateway.picker.prompt import CHUNK_BYTES, prompt_of

TEXT = "the quick brown fox " * 100


def body(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents], **more}


def fleet(*in_flight: int) -> list[Worker]:
    return [
        Worker("chat", f"chat-{i}", f"10.0.0.{i}:80", in_flight=n) for i, n in enumerate(in_flight)
    ]


def shared(a: dict[str, Any], b: dict[str, Any], model: str = "chat") -> int:
    """Chunks that two prompts have in common from their beginning."""
    index = PrefixIndex()
    index.add(prompt_of(a, model).chain)
    return index.matched(prompt_of(b, model).chain)


def test_a_conversation_that_grows_keeps_its_beginning() -> None:
    first, grown = body(TEXT), body(TEXT, "answer", "and then?")
    assert shared(first, grown) == len(TEXT) // CHUNK_BYTES
    assert shared(first, body("x" + TEXT)) == 0


def test_the_order_of_keys_in_the_body_does_not_matter() -> None:
    tools = [{"type": "function", "function": {"name": "clock", "description": TEXT}}]
    one = {"tools": tools, **body(TEXT)}
    other = {**body(TEXT), "tools": tools}
    assert prompt_of(one, "chat") == prompt_of(other, "chat")


def test_what_comes_first_in_the_prompt_counts_first() -> None:
    """Tools and the system message stand before the turns, wherever they are in the body."""
    with_system = {**body(TEXT), "system": TEXT}
    assert shared(with_system, {**body("other"), "system": TEXT}) > 5


def test_images_are_read_like_text() -> None:
    def image(data: str) -> list[Any]:
        url = f"data:image/png;base64,{data * 400}"
        return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]

    assert shared(body(image("abcd")), body(image("abcd"))) > 5
    assert shared(body(image("abcd")), body(image("efgh"))) == 0


def test_models_and_salts_share_nothing() -> None:
    assert shared(body(TEXT, cache_salt="a"), body(TEXT, cache_salt="b")) == 0
    assert shared(body(TEXT, cache_salt="a"), body(TEXT, cache_salt="a")) > 0
    index = PrefixIndex()
    index.add(prompt_of(body(TEXT), "chat").chain)
    assert index.matched(prompt_of(body(TEXT), "adapter").chain) == 0


def test_the_index_forgets_the_least_recently_used_and_prompts_from_their_end() -> None:
    index = PrefixIndex(capacity=10)
    index.add(range(100, 108))
    index.add(range(200, 206))  # 14 chunks in all: four of the first prompt must go
    assert len(index) == 10
    assert index.matched(range(200, 206)) == 6
    assert index.matched(range(100, 108)) == 4


@given(st.lists(st.integers(0, 50), min_size=1, max_size=16))
def test_there_is_always_room_and_never_above_the_bound(loads: list[int]) -> None:
    room = with_room(fleet(*loads))
    assert room
    mean = sum(loads) / len(loads)
    assert all(worker.in_flight < LOAD_FACTOR * mean + 1 for worker in room)


def test_the_longest_match_wins_among_those_with_room() -> None:
    prompt = prompt_of(body(TEXT), "chat")
    workers = fleet(0, 0, 0, 0)
    workers[1].index.add(prompt.chain[:2])
    workers[2].index.add(prompt.chain)
    assert by_prefix(workers, prompt, 1).worker is workers[2]
    workers[2].in_flight = 4
    assert by_prefix(workers, prompt, 1).worker is workers[1]


def test_without_a_match_prompts_spread_and_gateways_agree() -> None:
    workers = fleet(0, 0, 0, 0)
    prompts = [prompt_of(body(f"{n} {TEXT}"), "chat") for n in range(200)]
    picks = [by_prefix(workers, prompt, replicas=2).worker.name for prompt in prompts]
    assert max(Counter(picks).values()) < 80
    assert picks == [by_prefix(fleet(0, 0, 0, 0), p, replicas=2).worker.name for p in prompts]


def test_a_common_beginning_reaches_an_idle_worker() -> None:
    """Three of four are within the bound at 10, 10 and 11 of a mean of 7.75, and know the system prompt."""
    workers = fleet(10, 10, 11, 0)
    prompts = [prompt_of(body(f"{TEXT} {n} {TEXT}"), "chat") for n in range(20)]
    first, second = (prompt.chain for prompt in prompts[:2])
    common = next(n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    for worker in workers[:3]:
        worker.index.add(prompts[0].chain[:common])
    picked = [by_prefix(workers, prompt, 1) for prompt in prompts]
    assert any(pick.worker is workers[3] and pick.matched == 0 for pick in picked)
    workers[0].index.add(prompts[0].chain)  # more than what is common, and only here
    assert by_prefix(workers, prompts[0], 1).worker is workers[0]


def test_only_the_share_of_a_worker_that_leaves_moves() -> None:
    workers = fleet(0, 0, 0, 0)
    nothing = prompt_of({}, "chat")
    before = {s: by_session(workers, s, nothing).worker.name for s in map(str, range(300))}
    after = {s: by_session(workers[:3], s, nothing).worker.name for s in before}
    moved = [s for s in before if before[s] != after[s]]
    assert {before[s] for s in moved} == {"chat-3"}
