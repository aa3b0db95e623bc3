"""One user's requests, one after another: a generator of calls for each kind of traffic.

Answers put into a conversation's history are our own text of the answer's exact length, not the words
that came back: those may count differently when they are read again, and lengths would drift. So the
cache holds a conversation up to the last question, and each turn reads its previous answer anew.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from ..client import Call
from .spec import Traffic
from .text import Style, TextMaker

CHAT = "/v1/chat/completions"
# What an agent is offered; small on purpose, as its definition is in every prompt.
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Read a file of the repository.",
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string"}},
                "required": ["path"],
            },
        },
    }
]
# Popularity of documents falls as 1/rank, as that of web pages does (Breslau 1999: exponents 0.6-0.8;
# 1 is taken so that "shared documents" are shared within a short run).
_ZIPF = 1.0
_GOLDEN = (5**0.5 - 1) / 2

Session = Iterator[list[Call]]
"""Each item is what a user does before thinking again: calls made one after another."""


def session(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    """An endless session of the traffic's kind. `name` is unique in the run: it seeds the texts."""
    return _KINDS[traffic.kind](traffic, texts, model, name)


def _fixed(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    """Independent prompts of one length, of which the first part may be shared by all."""
    opening = texts.template.opening
    shared = int(traffic.input_tokens * traffic.prefix_reuse)
    own = traffic.input_tokens - opening - shared
    prefix = texts.shared(shared, "prefix") if shared >= texts.shortest else ""
    if not prefix:
        own, shared = own + shared, 0
    answers = _answers(traffic, texts, name)
    for number in itertools.count():
        rng = texts.rng(name, number)
        # The prefix ends with a newline so that it counts the same whatever follows.
        content = prefix + texts.text(max(own, texts.shortest), rng)
        messages = [{"role": "user", "content": content}]
        call = _chat(traffic, model, messages, traffic.input_tokens, next(answers))
        call.reusable, call.session, call.turn = shared, name, number
        yield [_maybe_cancelled(call, traffic, rng)]


class _Conversation:
    """Messages and the exact length of their prompt."""

    def __init__(self, traffic: Traffic, texts: TextMaker, tools: bool = False) -> None:
        self.texts = texts
        self.messages: list[dict[str, Any]] = []
        self.tokens = texts.template.opening + (texts.template.tools if tools else 0)
        self.shared = 0
        if traffic.system_tokens >= texts.shortest:
            rules = texts.text(traffic.system_tokens, texts.rng("system"))
            self.messages.append({"role": "system", "content": rules})
            self.tokens += texts.template.system + traffic.system_tokens
            self.shared = self.tokens - texts.template.opening

    def say(self, tokens: int, rng: random.Random, style: Style = "prose") -> None:
        """The user's message."""
        tokens = max(tokens, self.texts.shortest)
        self.messages.append({"role": "user", "content": self.texts.text(tokens, rng, style)})
        self.tokens += tokens

    def answer(self, tokens: int, rng: random.Random, then: str) -> None:
        """The assistant's message; `then` is the role that speaks next."""
        tokens = max(tokens, self.texts.shortest)
        self.messages.append({"role": "assistant", "content": self.texts.text(tokens, rng)})
        template = self.texts.template
        between = template.tool_exchange if then == "tool" else template.exchange
        self.tokens += tokens + (between or 0)

    def tool_result(self, tokens: int, rng: random.Random) -> None:
        tokens = max(tokens, self.texts.shortest)
        content = self.texts.text(tokens, rng, "code")
        self.messages.append({"role": "tool", "tool_call_id": "call-1", "content": content})
        self.tokens += tokens


def _conversations(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    """Chat: a first question, then turns until the context is full; then a new conversation."""
    answers = _answers(traffic, texts, name)
    for number in itertools.count():
        talk = _Conversation(traffic, texts)
        identity = f"{name}-{number}"
        rng = texts.rng(identity)
        talk.say(traffic.input_tokens - talk.tokens, rng)
        reusable = talk.shared
        for turn in itertools.count():
            answer = next(answers)
            call = _chat(traffic, model, list(talk.messages), talk.tokens, answer)
            call.reusable, call.session, call.turn = reusable, identity, turn
            yield [_maybe_cancelled(call, traffic, rng)]
            reusable = talk.tokens
            talk.answer(answer, rng, "user")
            talk.say(traffic.turn_tokens, rng)
            if talk.tokens + traffic.longest_output > traffic.context_limit:
                break


def _agents(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    """An agent in a code base: a long shared prefix, then tool calls and their results."""
    offered = texts.template.tool_exchange is not None
    answers = _answers(traffic, texts, name)
    for number in itertools.count():
        talk = _Conversation(traffic, texts, tools=offered)
        identity = f"{name}-{number}"
        rng = texts.rng(identity)
        # The repository: the same for all who work on it, so most of the prompt is shared.
        files = max(0, traffic.input_tokens - talk.tokens - traffic.turn_tokens)
        code = texts.shared(files, "repository", "code") if files >= texts.shortest else ""
        talk.say(traffic.turn_tokens, rng)
        talk.messages[-1]["content"] = code + talk.messages[-1]["content"]
        talk.tokens += files if code else 0
        reusable = talk.shared + (files if code else 0)
        for turn in itertools.count():
            answer = next(answers)
            call = _chat(traffic, model, list(talk.messages), talk.tokens, answer)
            if offered:
                call.body |= {"tools": TOOLS, "tool_choice": "none"}
            call.reusable, call.session, call.turn = reusable, identity, turn
            call.pause = traffic.tool_seconds if turn else 0.0
            yield [_maybe_cancelled(call, traffic, rng)]
            reusable = talk.tokens
            talk.answer(answer, rng, "tool" if offered else "user")
            if offered:
                talk.tool_result(traffic.turn_tokens, rng)
            else:
                talk.say(traffic.turn_tokens, rng, "code")
            if talk.tokens + traffic.longest_output > traffic.context_limit:
                break


def _retrieval(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    """Retrieval over a knowledge base: embed the question, rerank candidates, ask with the best."""
    question = max(64, texts.shortest)
    template = texts.template
    system = traffic.system_tokens if traffic.system_tokens >= texts.shortest else 0
    room = traffic.input_tokens - template.opening - question
    room -= template.system + system if system else 0
    each = max(room // traffic.documents, texts.shortest)
    answers = _answers(traffic, texts, name)
    weights = [1 / (rank + 1) ** _ZIPF for rank in range(traffic.knowledge_base)]
    for number in itertools.count():
        rng = texts.rng(name, number)
        picked = _distinct(rng, weights, traffic.documents)
        documents = [texts.shared(each, f"document-{place}") for place in picked]
        asked = texts.text(question + room - each * traffic.documents, rng)
        messages = [{"role": "user", "content": "".join(documents) + asked}]
        if system:
            messages.insert(
                0, {"role": "system", "content": texts.text(system, texts.rng("system"))}
            )
        call = _chat(traffic, model, messages, traffic.input_tokens, next(answers))
        call.reusable = template.system + system if system else 0
        call.session, call.turn = f"{name}-{number}", 0
        before = _lookups(traffic, asked, documents)
        yield [*before, _maybe_cancelled(call, traffic, rng)]


def _lookups(traffic: Traffic, question: str, documents: list[str]) -> list[Call]:
    """What a retrieval client asks first: the question's vector, then the candidates' order.

    Candidates go in shortened, as chunks of a vector store are: encoders read 512 tokens or so.
    """
    calls: list[Call] = []
    if traffic.embed_model:
        body = {"input": question[:800]}
        calls.append(Call("embed", "/v1/embeddings", traffic.embed_model, body, streamed=False))
    if traffic.rerank_model:
        chunks = [document[:800] for document in documents]
        body = {"query": question[:200], "documents": chunks}
        calls.append(Call("rerank", "/v1/rerank", traffic.rerank_model, body, streamed=False))
    return calls


def _distinct(rng: random.Random, weights: list[float], count: int) -> list[int]:
    """Different places, likelier the larger their weight, in a random order."""
    keyed = [(rng.random() ** (1 / weight), place) for place, weight in enumerate(weights)]
    return [place for _, place in sorted(keyed, reverse=True)[:count]]


def _embed(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    for number in itertools.count():
        rng = texts.rng(name, number)
        inputs = [texts.text(traffic.input_tokens, rng) for _ in range(traffic.documents)]
        call = Call("embed", "/v1/embeddings", model, {"input": inputs}, streamed=False)
        call.session = f"{name}-{number}"
        yield [call]


def _rerank(traffic: Traffic, texts: TextMaker, model: str, name: str) -> Session:
    for number in itertools.count():
        rng = texts.rng(name, number)
        documents = [texts.text(traffic.input_tokens, rng) for _ in range(traffic.documents)]
        body = {"query": texts.text(max(16, texts.shortest), rng), "documents": documents}
        call = Call("rerank", "/v1/rerank", model, body, streamed=False)
        call.session = f"{name}-{number}"
        yield [call]


def _answers(traffic: Traffic, texts: TextMaker, name: str) -> Iterator[int]:
    """How long each of a user's answers is. Successive multiples of the golden ratio go through the
    range evenly, so that a short run has the mean as well."""
    place = texts.rng(name, "answers").random()
    for number in itertools.count():
        share = 2 * ((place + number * _GOLDEN) % 1) - 1
        yield max(1, round(traffic.output_tokens * (1 + traffic.output_spread * share)))


def _chat(
    traffic: Traffic, model: str, messages: list[dict[str, Any]], tokens: int, answer: int
) -> Call:
    body: dict[str, Any] = {
        "messages": messages,
        "max_completion_tokens": answer,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if traffic.ignore_eos:
        body["ignore_eos"] = True
    return Call("chat", CHAT, model, body, asked_input=tokens, asked_output=answer)


def _maybe_cancelled(call: Call, traffic: Traffic, rng: random.Random) -> Call:
    if traffic.cancelled and rng.random() < traffic.cancelled:
        call.cancel_after = max(1, (call.asked_output or 2) // 2)
    return call


_KINDS: dict[str, Callable[[Traffic, TextMaker, str, str], Session]] = {
    "fixed": _fixed,
    "chat": _conversations,
    "retrieval": _retrieval,
    "agents": _agents,
    "embed": _embed,
    "rerank": _rerank,
}
