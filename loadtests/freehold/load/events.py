"""What a server-sent event of a streamed answer means: which events are output, and which only end it.

The rules are those of `vllm bench serve` 0.33 (vllm/benchmarks/lib/endpoint_request_func.py, read
2026-11-23). 0.32's own tool also counts the opening chunk that carries only the role, so its TTFT is
the time to the headers' first chunk on servers that send one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

DONE = b"[DONE]"
# `reasoning_content` is what servers other than vLLM call `reasoning`.
_SAID = ("content", "reasoning", "reasoning_content", "tool_calls", "function_call")


class BrokenStreamError(Exception):
    """The stream is not what the protocol says: not JSON, an error in the middle, or cut short."""


@dataclass(slots=True)
class Usage:
    """The server's own token counts, from the usage chunk."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Prompt tokens found in the prefix cache, where the server tells (vLLM:
    --enable-prompt-tokens-details)."""


def payload(line: bytes) -> bytes | None:
    """The data of one line of an event stream; None for blank lines, comments and other fields."""
    if line.startswith(b"data:"):
        return line[5:].strip()
    return None


def decode(data: bytes) -> dict[str, Any]:
    """One chunk; BrokenStreamError when it is not JSON, or is an error that the server sent."""
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BrokenStreamError(f"not JSON: {data[:80]!r}") from None
    if not isinstance(chunk, dict):
        raise BrokenStreamError(f"not an object: {data[:80]!r}")
    if error := chunk.get("error"):
        said = error.get("message") if isinstance(error, dict) else error
        raise BrokenStreamError(f"the server broke off: {said}")
    return chunk


def is_output(choice: dict[str, Any]) -> bool:
    """Whether a choice of a chunk counts as output, so that its arrival is a token time.

    Text, reasoning and tool calls count. An empty content counts as well (a special token), unless
    the chunk carries the role: that one only opens the answer.
    """
    delta = choice.get("delta")
    if delta is None:  # /v1/completions: every chunk with a choice counts, also an empty one
        return "text" in choice
    if any(delta.get(key) for key in _SAID):
        return True
    return delta.get("content") == "" and "role" not in delta


def usage_of(chunk: dict[str, Any]) -> Usage | None:
    """The token counts of a chunk or a whole answer that has them."""
    counts = chunk.get("usage")
    if not isinstance(counts, dict):
        return None
    details = counts.get("prompt_tokens_details")
    return Usage(
        prompt_tokens=counts.get("prompt_tokens"),
        output_tokens=counts.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens") if isinstance(details, dict) else None,
    )
