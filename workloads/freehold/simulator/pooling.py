"""Embeddings and scores: prompts that are computed and answered with numbers.

The numbers have meaning of a sort, so that a client can be tried: texts that share words are near.
"""

from __future__ import annotations

import base64
import math
import re
import time
import uuid
from array import array
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import xxhash

from . import errors, prompts, tokens
from .http import Exchange
from .prompts import PromptError
from .replica import Replica
from .request import Request

Body = Mapping[str, Any]
_WORD = re.compile(r"\w+")
# A score or a vector is made of the first so many words: enough to tell texts apart.
_WORDS = 512
# `[CLS] query [SEP] text [SEP]`: tokens that a pair has beside its texts.
_PAIR_TOKENS = 3


def embeddings(replica: Replica, exchange: Exchange, body: Body) -> None:
    given = body.get("input", body.get("messages"))
    if given is None:
        return errors.missing(exchange, "input")
    if "input" in body:
        texts = prompts.prompts_of(given, "input")
    else:
        rendered = prompts.of_chat(given, generation=False)
        texts = [(rendered, tokens.count(rendered))]
    dimensions = body.get("dimensions") or replica.settings.dimensions
    binary = body.get("encoding_format") == "base64"

    def answer(model: str) -> bytes:
        data = []
        for place, (text, _) in enumerate(texts):
            vector = vector_of(text, dimensions)
            value: Any = base64.b64encode(vector.tobytes()).decode() if binary else vector.tolist()
            data.append({"index": place, "object": "embedding", "embedding": value})
        return _listed("embd-", model, data, sum(length for _, length in texts))

    _pool(replica, exchange, body, [length for _, length in texts], answer)
    return None


def score(replica: Replica, exchange: Exchange, body: Body) -> None:
    left = body.get("text_1", body.get("queries"))
    right = body.get("text_2", body.get("documents", body.get("items")))
    if left is None or right is None:
        return errors.missing(exchange, "text_1" if left is None else "text_2")
    lefts, rights = _texts(left, "text_1"), _texts(right, "text_2")
    if len(lefts) not in (1, len(rights)):
        raise PromptError("text_1 is one text, or as many as text_2", "text_1")
    pairs = list(zip(lefts * (len(rights) if len(lefts) == 1 else 1), rights, strict=True))

    def answer(model: str) -> bytes:
        data = [
            {"index": place, "object": "score", "score": likeness(*pair)}
            for place, pair in enumerate(pairs)
        ]
        return _listed("embd-", model, data, sum(map(_pair_length, pairs)))

    _pool(replica, exchange, body, list(map(_pair_length, pairs)), answer)
    return None


def rerank(replica: Replica, exchange: Exchange, body: Body) -> None:
    for name in ("query", "documents"):
        if name not in body:
            return errors.missing(exchange, name)
    query, documents = _texts(body["query"], "query"), _texts(body["documents"], "documents")
    pairs = [(query[0], document) for document in documents]

    def answer(model: str) -> bytes:
        results = [
            {"index": place, "document": {"text": text}, "relevance_score": likeness(*pair)}
            for place, (pair, text) in enumerate(zip(pairs, documents, strict=True))
        ]
        results.sort(key=lambda result: -result["relevance_score"])
        length = sum(map(_pair_length, pairs))
        return orjson.dumps(
            {
                "id": f"rerank-{uuid.uuid4().hex}",
                "model": model,
                "usage": {"prompt_tokens": length, "total_tokens": length},
                "results": results[: body.get("top_n") or len(results)],
            }
        )

    _pool(replica, exchange, body, list(map(_pair_length, pairs)), answer)
    return None


# --- One request of several sequences ------------------------------------------------------------------


class _Gathering:
    """The sink of all sequences of one request: answers when the last one is computed."""

    def __init__(self, sequences: int, done: Callable[[bool], None]) -> None:
        self._left = sequences
        self._done = done
        self._aborted = False

    def produced(self, request: Request, count: int) -> None:
        pass

    def finished(self, request: Request) -> None:
        self._aborted |= request.finish == "abort"
        self._left -= 1
        if not self._left:
            self._done(self._aborted)


def _pool(
    replica: Replica,
    exchange: Exchange,
    body: Body,
    lengths: list[int],
    answer: Callable[[str], bytes],
) -> None:
    served = replica.served(body.get("model"))
    if served is None:
        return errors.unknown_model(exchange, body["model"], ", ".join(replica.settings.names))
    model, _ = served
    for length in lengths:
        replica.room_for(length, for_answer=0)
    if not lengths:
        raise PromptError("there is nothing to compute: the list is empty", "input")
    replica.engine.admit()

    def done(aborted: bool) -> None:
        if aborted:
            errors.internal(exchange, "Request was aborted")
        else:
            exchange.respond(200, answer(model), more=replica.answer_headers(exchange))

    sink = _Gathering(len(lengths), done)
    block = replica.settings.limits.block_size
    requests = [
        Request(b"", None, sink, block_size=block, caching=False, length=max(length, 1))
        for length in lengths
    ]

    def gone() -> None:
        for request in requests:
            replica.engine.abort(request)

    exchange.gone = gone
    for request in requests:
        replica.submit(request)
    return None


def _listed(prefix: str, model: str, data: list[Any], length: int) -> bytes:
    usage = {"prompt_tokens": length, "total_tokens": length, "completion_tokens": 0}
    return orjson.dumps(
        {
            "id": f"{prefix}{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": model,
            "data": data,
            "usage": usage | {"prompt_tokens_details": None},
        }
    )


def _texts(value: Any, name: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    parts = [entry.get("text") if isinstance(entry, Mapping) else entry for entry in values]
    texts = [text for text in parts if isinstance(text, str)]
    if not texts or len(texts) < len(parts):
        raise PromptError(f"{name} is a text or a list of texts", name)
    return texts


def _pair_length(pair: tuple[str, str]) -> int:
    return sum(tokens.count(text.encode()) for text in pair) + _PAIR_TOKENS


# --- Numbers ------------------------------------------------------------------------------------------


def vector_of(text: bytes, dimensions: int) -> array[float]:
    """A unit vector: each word adds one to a place of its own, its three-letter parts a little."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.decode(errors="replace").lower())[:_WORDS] or [""]:
        _count(vector, word, 1.0)
        for start in range(len(word) - 2):
            _count(vector, word[start : start + 3], 0.3)
    norm = math.sqrt(sum(value * value for value in vector)) or 1.0
    return array("f", (value / norm for value in vector))


def _count(vector: list[float], word: str, weight: float) -> None:
    place = xxhash.xxh3_64_intdigest(word)
    vector[(place >> 1) % len(vector)] += weight if place & 1 else -weight


def likeness(query: str, text: str) -> float:
    """Between 0 and 1: the share of the query's words that the text has, gently curved."""
    asked = set(_WORD.findall(query.lower()))
    found = asked & set(_WORD.findall(text.lower())[:_WORDS])
    return 1 / (1 + math.exp(4 - 8 * len(found) / max(len(asked), 1)))
