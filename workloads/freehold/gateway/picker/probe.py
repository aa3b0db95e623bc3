"""A harmless request of the picker's own: does a worker answer it as it should, and how soon?"""

from __future__ import annotations

import asyncio
import math

import orjson

from freehold.gateway.model import Role

from .http import fetch

# What every worker of a role can answer at next to no cost. Two tokens, so that a stream has a middle.
_QUESTIONS: dict[Role, tuple[str, dict[str, object]]] = {
    "generate": ("/v1/completions", {"prompt": "Hello", "max_tokens": 2, "stream": True}),
    "embed": ("/v1/embeddings", {"input": "Hello"}),
    "rerank": ("/v1/rerank", {"query": "Hello", "documents": ["Hello"]}),
}
_BUSY = (429, 503)


async def ask(address: str, role: Role, model: str) -> float | None:
    """Seconds until the whole answer was there; infinite where it failed, was no sense or never came;
    None from a worker that is too busy to say."""
    path, question = _QUESTIONS[role]
    clock = asyncio.get_running_loop().time
    asked = clock()
    body = orjson.dumps({"model": model, **question})
    try:
        status, answer = await fetch("POST", address, path, body)
    except (OSError, ValueError):
        return math.inf
    if status in _BUSY:
        return None
    return clock() - asked if status == 200 and makes_sense(answer, role) else math.inf


def makes_sense(body: bytes, role: Role) -> bool:
    try:
        if role != "generate":
            return isinstance(orjson.loads(body), dict)
        # A colon begins a comment, with which a stream is kept open.
        lines = [line for line in body.splitlines() if line and not line.startswith(b":")]
        events = [_data(line) for line in lines]
        return events.pop() == b"[DONE]" and all(map(_is_piece, events))
    except (ValueError, IndexError):
        return False


def _data(line: bytes) -> bytes:
    """Of a line of an event stream. Raises ValueError for another."""
    field, colon, data = line.partition(b":")
    if not colon or field != b"data":
        raise ValueError("no line of an event stream")
    return data.strip()


def _is_piece(data: bytes) -> bool:
    piece = orjson.loads(data)
    return isinstance(piece, dict) and "error" not in piece
