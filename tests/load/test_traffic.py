"""Traffic: exact lengths, new texts every run, and as much repetition as was asked for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from freehold.config import FreeholdError
from freehold.config.demand import Demand
from freehold.load.client import Call
from freehold.load.deterministic import count_tokens
from freehold.load.traffic import TextMaker, Traffic, tier_traffic
from freehold.load.traffic.corpus import additive, load_corpus, make_corpus
from freehold.load.traffic.fitting import fitted
from freehold.load.traffic.sessions import TOOLS, session
from freehold.load.traffic.spec import TIERS
from freehold.load.traffic.text import Template
from freehold.load.traffic.tokens import CharacterTokens, FileTokens, ServerTokens, fingerprint


@pytest.fixture(scope="session")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer, as most models have, trained on the corpus itself: it merges all
    that such a tokenizer can merge in these texts."""
    corpus = make_corpus(len)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((p.text for p in (*corpus.prose, *corpus.code)), trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_pieces_add_up_under_a_byte_level_tokenizer(bpe: Path) -> None:
    counter = FileTokens(bpe)
    corpus = make_corpus(counter.count)
    assert additive(corpus, counter.count) == 0
    assert len(corpus.words) > 50


@pytest.mark.parametrize("tokens", [12, 40, 41, 42, 43, 700, 20_001])
@pytest.mark.parametrize("style", ["prose", "code"])
def test_a_text_has_exactly_the_length_asked(bpe: Path, tokens: int, style: Any) -> None:
    counter = FileTokens(bpe)
    texts = TextMaker(make_corpus(counter.count), Template.measured(counter), "a")
    for number in range(5):
        assert counter.count(texts.text(tokens, texts.rng(number), style)) == tokens


def test_too_short_a_text_is_refused(words: TextMaker) -> None:
    with pytest.raises(FreeholdError, match="too short"):
        words.text(1, words.rng(0))


@pytest.mark.parametrize("name", [*TIERS, "fixed"])
def test_every_prompt_is_as_long_as_it_says(words: TextMaker, name: str) -> None:
    traffic = TIERS.get(name) or Traffic(input_tokens=1500, prefix_reuse=0.4)
    asked = [
        call for calls in itertools.islice(session(traffic, words, "m", "u"), 30) for call in calls
    ]
    chats = [call for call in asked if call.name == "chat"]
    assert [count_tokens(c.body) for c in chats] == [c.asked_input for c in chats]
    assert all((c.asked_input or 0) + (c.asked_output or 0) <= traffic.longest for c in chats)


def _prompt(call: Call) -> list[str]:
    texts: list[str] = [message.get("content") or "" for message in call.body["messages"]]
    return "\n".join(texts).split()


def _common(one: list[str], other: list[str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)


def test_a_conversation_grows_by_its_turns_and_starts_over(words: TextMaker) -> None:
    traffic = TIERS["small"]
    calls = [calls[0] for calls in itertools.islice(session(traffic, words, "m", "u"), 60)]
    first = [call for call in calls if call.session == calls[0].session]
    assert first[0].asked_input == 2_000
    steps = {(b.asked_input or 0) - (a.asked_input or 0) for a, b in itertools.pairwise(first)}
    shortest = traffic.output_tokens * (1 - traffic.output_spread)
    assert min(steps) >= traffic.turn_tokens + shortest
    assert 19_000 < (first[-1].asked_input or 0) < 20_000
    for before, after in itertools.pairwise(first):
        # All of the last prompt is found again, but for the answer's opening.
        assert _common(_prompt(before), _prompt(after)) in (0, len(_prompt(before)))
        assert after.reusable == before.asked_input


def test_a_fixed_prompt_repeats_the_share_asked(words: TextMaker) -> None:
    traffic = Traffic(input_tokens=2000, prefix_reuse=0.6)
    one, other = (next(session(traffic, words, "m", name))[0] for name in ("a", "b"))
    assert one.reusable == 1200
    assert _common(_prompt(one), _prompt(other)) == pytest.approx(1200, abs=3)


def test_another_salt_shares_nothing_and_the_same_salt_everything(words: TextMaker) -> None:
    traffic = Traffic(input_tokens=500, prefix_reuse=0.5)
    again = TextMaker(words.corpus, words.template, "salt")
    other = TextMaker(words.corpus, words.template, "pepper")
    mine, same, new = (
        _prompt(next(session(traffic, texts, "m", "u"))[0]) for texts in (words, again, other)
    )
    assert mine == same
    assert _common(mine, new) <= 3


def test_retrieval_asks_as_a_rag_client_does(words: TextMaker) -> None:
    traffic = TIERS["medium"].model_copy(update={"embed_model": "embed", "rerank_model": "rerank"})
    embed, rerank, chat = next(session(traffic, words, "chat", "u"))
    assert (embed.path, rerank.path) == ("/v1/embeddings", "/v1/rerank")
    assert (embed.model, rerank.model, chat.model) == ("embed", "rerank", "chat")
    assert len(rerank.body["documents"]) == traffic.documents
    prompts = [
        c["content"]
        for name in "ab"
        for c in next(session(traffic, words, "m", name))[-1].body["messages"]
    ]
    assert prompts[0] == prompts[2], "instructions are shared"


def test_agents_share_their_repository_call_tools_and_hang_up(words: TextMaker) -> None:
    traffic = TIERS["large"].model_copy(update={"cancelled": 0.2})
    calls = [calls[0] for calls in itertools.islice(session(traffic, words, "m", "u"), 100)]
    assert calls[0].reusable > 0.9 * (calls[0].asked_input or 0)
    assert calls[0].body["tools"] == TOOLS and calls[1].pause == traffic.tool_seconds
    assert calls[1].body["messages"][-1]["role"] == "tool"
    assert 8 <= sum(call.cancel_after is not None for call in calls) <= 35


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("hit_rate", [0.0, 0.5, 0.8])
def test_traffic_fitted_to_a_demand_is_that_demand(
    words: TextMaker, tier: str, hit_rate: float
) -> None:
    demand = Demand(concurrency=4, input_tokens=8000, output_tokens=200, prefix_hit_rate=hit_rate)
    traffic = fitted(tier_traffic(tier), demand)
    chats = [
        call
        for calls in itertools.islice(session(traffic, words, "m", "u"), 60)
        for call in calls
        if call.name == "chat"
    ]
    # Whole conversations only: the last one may be cut.
    chats = [call for call in chats if call.session != chats[-1].session]
    asked = sum(call.asked_input or 0 for call in chats)
    assert asked / len(chats) == pytest.approx(8000, rel=0.08)
    answers = [call.asked_output or 0 for call in chats]
    assert sum(answers) / len(answers) == pytest.approx(200, rel=0.03)
    assert 100 <= min(answers) < 120 and 280 < max(answers) <= 300
    if tier != "large" or hit_rate:  # agents always share their repository
        assert sum(call.reusable for call in chats) / asked == pytest.approx(hit_rate, abs=0.12)


@pytest.mark.parametrize("tier", TIERS)
def test_traffic_scaled_to_a_small_model_fits_it(words: TextMaker, tier: str) -> None:
    traffic = TIERS[tier].within(4096)
    calls = [c for calls in itertools.islice(session(traffic, words, "m", "u"), 40) for c in calls]
    chats = [call for call in calls if call.name == "chat"]
    assert max((c.asked_input or 0) + (c.asked_output or 0) for c in chats) <= 4096
    assert [count_tokens(c.body) for c in chats] == [c.asked_input for c in chats]


def test_counts_are_kept_for_the_same_tokenizer_only(server: str, tmp_path: Path) -> None:
    counter = ServerTokens(server, None, "deterministic")
    assert counter.works()
    made = load_corpus(tmp_path, fingerprint(counter), counter.count)

    def forbidden(text: str) -> int:
        raise AssertionError("counted again")

    assert load_corpus(tmp_path, fingerprint(counter), forbidden) == made
    assert fingerprint(counter) != fingerprint(CharacterTokens())
    assert not ServerTokens(server, None, "no-such-model").works()
