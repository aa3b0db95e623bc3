"""From a request's body to the text that the engine reads.

The chat template is made so that conversations stay aligned with tokens (four bytes): every part is
filled up to whole tokens, so an answer that comes back as history is the same blocks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from . import tokens

_END = b"<|end|>\n"
_ROLE_WIDTH = 16
ASSISTANT = b"<|assistant|>".ljust(_ROLE_WIDTH)


class PromptError(Exception):
    """A body that vLLM refuses: message and the parameter that is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def of_chat(messages: Any, tools: Any = None, *, generation: bool = True) -> bytes:
    """The rendered conversation: 6 tokens a message beside its text, 4 for the answer's beginning."""
    if not isinstance(messages, list) or not messages:
        raise PromptError("messages must be a list with at least one message", "messages")
    parts = []
    if tools:
        parts += [b"<|tools|>".ljust(_ROLE_WIDTH), _aligned(orjson.dumps(tools)), _END]
    for message in messages:
        parts += [*_message(message), _END]
    if generation:
        parts.append(ASSISTANT)
    return b"".join(parts)


def _message(message: Any) -> Iterator[bytes]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise PromptError("every message has a role", "messages")
    yield f"<|{message['role']}|>".encode().ljust(_ROLE_WIDTH)
    yield _aligned(_text_of(message.get("content")).encode())
    if calls := message.get("tool_calls"):
        yield _aligned(orjson.dumps(calls))


def _text_of(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_text_of_part(part) for part in content)
    raise PromptError("content is a text or a list of parts", "messages")


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind = part.get("type")
        if isinstance(part.get("text"), str):  # text, input_text, output_text, thinking
            return part["text"]
        if kind in ("tool_result", "tool_use"):
            return orjson.dumps(part.get("content") or part.get("input")).decode()
        raise PromptError(f"This model takes text only; a part is of type {kind!r}.", "messages")
    raise PromptError("a part of content is an object", "messages")


def of_completion(prompt: Any) -> tuple[bytes, int]:
    """The text of one prompt, given as text or as token numbers, and its length in tokens."""
    if isinstance(prompt, str):
        text = prompt.encode()
        return text, tokens.count(text)
    if isinstance(prompt, list) and prompt and all(isinstance(n, int) for n in prompt):
        try:
            return tokens.packed(prompt), len(prompt)
        except OverflowError:
            raise PromptError("a token number is out of range", "prompt") from None
    raise PromptError("prompt is a text or a list of token numbers", "prompt")


def prompts_of(value: Any, name: str) -> list[tuple[bytes, int]]:
    """One or several prompts: a text, token numbers, or a list of either."""
    if isinstance(value, list) and value and not all(isinstance(n, int) for n in value):
        return [of_completion(entry) for entry in value]
    try:
        return [of_completion(value)]
    except PromptError as error:
        raise PromptError(str(error), name) from None


def _aligned(text: bytes) -> bytes:
    return text.ljust(tokens.count(text) * tokens.WIDTH)
