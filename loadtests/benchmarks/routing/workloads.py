"""What clients send: the same requests in the same order for every router.

A conversation is a list of calls, each sent when the one before is answered. What an assistant said is fixed
too, so that no answer changes what comes after. Tokens are four characters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from freehold.load.client import Call

from .engine import BLOCK_TOKENS, OUTPUT_TOKENS, block_chain, prompt_of

Conversation = list[Call]
_WORDS = (
    Path(__file__)
    .parents[2]
    .joinpath("freehold/load/traffic/words.txt")
    .read_text(encoding="utf-8")
    .split()
)
CHAT, EMBED, RERANK = "/v1/chat/completions", "/v1/embeddings", "/v1/rerank"


@dataclass(frozen=True)
class Workload:
    name: str
    what: str
    clients: int
    """Requests in flight, each client's next when its last is answered."""
    conversations: tuple[Conversation, ...]
    slow: tuple[tuple[int, float], ...] = ()
    """Workers by place, and how many times slower they are."""
    away_seconds: float | None = None
    """Every so often a worker goes away for half that time."""
    gateways: int = 1
    """Replicas of the router that share the load."""
    models: tuple[tuple[str, float], ...] = (("chat", 1.0),)
    """Served models and each one's share of the workers."""

    @property
    def calls(self) -> int:
        return sum(len(conversation) for conversation in self.conversations)

    def best_hit_share(self, tenants: int = 1) -> float:
        """Of prompt tokens, with one endless cache; with several, where tenants are sealed."""
        known: set[int] = set()
        prompt = found = 0
        for place, conversation in enumerate(self.conversations):
            for call in conversation:
                if call.path != CHAT:
                    continue
                text = prompt_of(call.body)
                chain = block_chain(text, f"{call.model} {place % tenants}")
                there = next((n for n, block in enumerate(chain) if block not in known), len(chain))
                prompt, found = prompt + len(text) / 4, found + there * BLOCK_TOKENS
                known.update(chain)
        return found / prompt if prompt else 0.0


def warm_up(workload: Workload) -> list[Call]:
    """A short request of each client, so that connections are there before what is measured."""
    calls = []
    for number in range(workload.clients):
        model, _ = workload.models[number % len(workload.models)]
        text = f"{number}: {model}"
        if model == "embed":
            calls += _at_once(EMBED, model, text, input=text)
        elif model == "rerank":
            calls += _at_once(RERANK, model, text, query=text, documents=[text])
        else:
            calls.append(_call([_message("user", text)], text, model))
    return calls


class Writer:
    """Random texts of a length, by seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self, tokens: int) -> str:
        """Words of `4 * tokens` characters."""
        words = self.random.choices(_WORDS, k=tokens)
        return " ".join(words).ljust(4 * tokens, ".")[: 4 * tokens]


def _call(messages: Sequence[dict[str, str]], session: str, model: str = "chat") -> Call:
    body: dict[str, Any] = {
        "messages": list(messages),
        "max_tokens": OUTPUT_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return Call("chat", CHAT, model, body, session=session)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _chats(writer: Writer, count: int, turns: int, system: int, turn: tuple[int, int]) -> Any:
    shared = _message("system", writer.text(system))
    for number in range(count):
        messages, calls = [shared], []
        for _ in range(turns):
            messages.append(_message("user", writer.text(writer.random.randint(*turn))))
            calls.append(_call(messages, f"conversation-{number}"))
            messages.append(_message("assistant", writer.text(OUTPUT_TOKENS)))
        yield calls


def _zipf(writer: Writer, count: int, items: Sequence[Any]) -> list[Any]:
    """The n-th of the items is asked for 1/n as often as the first."""
    return writer.random.choices(items, [1 / (1 + place) for place in range(len(items))], k=count)


def chat(seed: int, scale: float) -> Workload:
    count = round(64 * scale)
    calls = tuple(_chats(Writer(seed), count, 8, 500, (60, 340)))
    return Workload("W1", "chat: a shared system prompt, histories that grow", 32, calls)


def chat_tight(seed: int, scale: float) -> Workload:
    """Live histories together are about the size of four caches."""
    count = round(64 * scale)
    calls = tuple(_chats(Writer(seed), count, 12, 500, (100, 500)))
    return Workload("W1L", "chat whose histories just fit the caches", count, calls)


def _retrieval(seed: int, scale: float, in_system: bool) -> Iterator[Conversation]:
    writer = Writer(seed)
    rules, documents = writer.text(50), [writer.text(4000) for _ in range(40)]
    for number, document in enumerate(_zipf(writer, round(600 * scale), documents)):
        question = writer.text(30)
        if in_system:
            said = [_message("system", document), _message("user", question)]
        else:
            said = [_message("system", rules), _message("user", document + question)]
        yield [_call(said, f"request-{number}")]


def retrieval(seed: int, scale: float) -> Workload:
    calls = tuple(_retrieval(seed, scale, in_system=False))
    return Workload("W2", "retrieval: Zipf-popular documents in the user message", 32, calls)


def retrieval_system(seed: int, scale: float) -> Workload:
    calls = tuple(_retrieval(seed, scale, in_system=True))
    return Workload("W2s", "retrieval: the document in the system message", 32, calls)


def hot_prompt(seed: int, scale: float) -> Workload:
    writer = Writer(seed)
    rules = _message("system", writer.text(2000))
    calls = tuple(
        [_call([rules, _message("user", writer.text(40))], f"request-{number}")]
        for number in range(round(700 * scale))
    )
    return Workload("W3", "one hot system prompt for all", 32, calls)


def unique(seed: int, scale: float) -> Workload:
    writer = Writer(seed)
    calls = tuple(
        [
            _call(
                [_message("user", writer.text(writer.random.randint(200, 2600)))],
                f"request-{number}",
            )
        ]
        for number in range(round(500 * scale))
    )
    return Workload("W4", "unique prompts", 32, calls)


def mixed(seed: int, scale: float) -> Workload:
    """Half of the workers answer one model, a quarter another, a quarter embeds."""
    writer = Writer(seed)
    one = list(_chats(writer, round(32 * scale), 8, 500, (60, 340)))
    two = [
        [replace(call, model="other") for call in conversation]
        for conversation in hot_prompt(seed + 1, scale / 3).conversations
    ]
    embeddings = [
        _at_once(EMBED, "embed", f"e-{n}", input=writer.text(200))
        for n in range(round(200 * scale))
    ]
    calls = [*one, *two, *embeddings]
    writer.random.shuffle(calls)
    models = (("chat", 0.5), ("other", 0.25), ("embed", 0.25))
    return Workload("mixed", "two models and embeddings", 32, tuple(calls), models=models)


def _at_once(path: str, model: str, session: str, **body: Any) -> Conversation:
    return [Call(model, path, model, body, streamed=False, session=session)]


def embed(seed: int, scale: float) -> Workload:
    """Passages to be indexed, short ones and long ones."""
    writer = Writer(seed)
    calls = tuple(
        _at_once(EMBED, "embed", f"e-{n}", input=writer.text(writer.random.choice((30, 200, 1000))))
        for n in range(round(1000 * scale))
    )
    models = (("embed", 1.0),)
    return Workload("embed", "embeddings of passages", 32, calls, models=models)


def rerank(seed: int, scale: float) -> Workload:
    """A question of its own each time; some documents are found more often than others."""
    writer = Writer(seed)
    documents = [writer.text(writer.random.choice((50, 100, 300))) for _ in range(200)]
    calls = tuple(
        _at_once(
            *(RERANK, "rerank", f"r-{n}"),
            query=writer.text(20),
            documents=_zipf(writer, writer.random.choice((5, 20)), documents),
        )
        for n in range(round(500 * scale))
    )
    models = (("rerank", 1.0),)
    return Workload("rerank", "questions beside documents found for them", 32, calls, models=models)


def slow_worker(seed: int, scale: float) -> Workload:
    of = chat(seed, scale)
    return replace(of, name="slow", what="W1, one worker four times slower", slow=((0, 4.0),))


def coming_and_going(seed: int, scale: float) -> Workload:
    """Long enough that several workers go: at about 120 requests a second, a minute and a half."""
    of = chat(seed, 20 * scale)
    return replace(of, name="churn", what="W1, a worker away every 30 s", away_seconds=30.0)


def two_gateways(seed: int, scale: float) -> Workload:
    of = chat_tight(seed, scale)
    return replace(of, name="two", what="W1L through two replicas of the router", gateways=2)


WORKLOADS: dict[str, Callable[[int, float], Workload]] = {
    "W1": chat,
    "W1L": chat_tight,
    "W2": retrieval,
    "W2s": retrieval_system,
    "W3": hot_prompt,
    "W4": unique,
    "embed": embed,
    "rerank": rerank,
    "mixed": mixed,
    "slow": slow_worker,
    "churn": coming_and_going,
    "two": two_gateways,
}
