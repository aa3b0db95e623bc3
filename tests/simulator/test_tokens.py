"""Tokens are exact, reversible, and real text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from freehold.simulator import tokens
from freehold.simulator.prompts import ASSISTANT, of_chat


@given(st.text())
def test_encoding_is_reversible_and_counts_the_same(text: str) -> None:
    data = text.encode()
    numbers = tokens.encode(data)
    assert len(numbers) == tokens.count(data)
    assert tokens.decode(numbers) == data


@given(st.text(min_size=1).filter(lambda text: len(text.encode()) % tokens.WIDTH == 0))
def test_a_prompt_of_token_numbers_hashes_like_its_text(text: str) -> None:
    assert tokens.packed(tokens.encode(text.encode())) == text.encode()


@given(st.integers(0, 2**64 - 1), st.integers(1, 3000))
def test_answers_are_words_of_exactly_the_asked_length(seed: int, length: int) -> None:
    answer = tokens.Answer.words(seed, length)
    assert len(tokens.encode(answer.text.encode())) == length
    assert re.fullmatch(r"([a-z]{3} )+", answer.text)
    pieces = [answer.piece(at, at + 7) for at in range(0, length, 7)]
    assert "".join(pieces) == answer.text


def test_an_answer_longer_than_the_store_of_words_has_its_length() -> None:
    assert tokens.count(tokens.Answer.words(5, 200_000).text.encode()) == 200_000


def test_a_stop_string_ends_the_text_before_it_and_its_tokens_count() -> None:
    answer = tokens.Answer.exactly("one two three four")
    assert answer.stop_at(["four", "three"]) == "three"
    assert answer.text == "one two "
    assert answer.tokens == 4  # "one ", "two ", "thre", "e"


def test_a_conversation_begins_with_what_the_engine_had_before_it() -> None:
    """So that the blocks of a prompt and its answer are found again in the next turn."""
    first = [{"role": "user", "content": "odd length"}]
    answer = tokens.Answer.words(1, 20).text
    # Clients often strip an answer before they send it back.
    following = [
        *first,
        {"role": "assistant", "content": answer.strip()},
        {"role": "user", "content": "go on"},
    ]
    had = of_chat(first) + answer.encode()
    assert of_chat(first).endswith(ASSISTANT)
    assert of_chat(following).startswith(had)
    assert len(had) % tokens.WIDTH == 0
