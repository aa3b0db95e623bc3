"""From a request's body to the chain of hashes that stands for its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import xxhash

from freehold.gateway.names import MODEL, STREAM, USAGE_ASKED

# 256 characters are about 64 tokens, four of vLLM's blocks: fine enough to tell documents apart, coarse
# enough that 200 KB are 800 hashes.
CHUNK_BYTES = 256
# One MiB, about 250,000 tokens: longer prompts than that share or differ long before their end.
MAX_CHUNKS = 4096

# What engines put into the prompt, in the order in which chat templates do: tools, then the system
# message, then the rest. One endpoint's body has some of them.
_PARTS = (
    *("tools", "system", "instructions"),
    *("messages", "prompt", "input"),
    *("query", "text_1", "queries", "documents", "text_2", "items"),
)


@dataclass(frozen=True)
class Prompt:
    """`chain[i]` stands for the first `i + 1` chunks; `rest` for what follows the last whole chunk."""

    chain: tuple[int, ...]
    rest: int

    def key_after(self, matched: int) -> int:
        """Hash of the first chunk after `matched` ones: what sets this prompt apart from others that
        share them."""
        return self.chain[matched] if matched < len(self.chain) else self.rest


def read(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object of a request, or None: what is wrong with it is Envoy's to say."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def known_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What Envoy's filters go by, as Envoy's own parser would tell it: see `names.BODY`."""
    options = body.get("stream_options")
    asked = options.get("include_usage") if isinstance(options, dict) else None
    found = {MODEL: body.get("model"), STREAM: body.get("stream"), USAGE_ASKED: asked}
    return {
        name: value for name, value in found.items() if isinstance(value, bool | int | float | str)
    }


def prompt_of(body: Mapping[str, Any], served_model: str) -> Prompt:
    """Everything the engine will read, as JSON, cut in chunks and hashed one upon the other.

    JSON instead of the rendered template: a conversation that grows keeps its beginning, the system
    message, tool calls and images (as data URLs) are in it, and no tokenizer is needed. Caches are
    apart by model (an adapter has its own) and by `cache_salt`, so the chain starts from both."""
    seed = xxhash.xxh3_64_intdigest(f"{served_model}\0{body.get('cache_salt', '')}")
    text = memoryview(b"".join(_written(body[part]) for part in _PARTS if part in body))
    chain = []
    whole = min(len(text) // CHUNK_BYTES, MAX_CHUNKS)
    for start in range(0, whole * CHUNK_BYTES, CHUNK_BYTES):
        seed = xxhash.xxh3_64_intdigest(text[start : start + CHUNK_BYTES], seed)
        chain.append(seed)
    rest = xxhash.xxh3_64_intdigest(text[whole * CHUNK_BYTES : (whole + 1) * CHUNK_BYTES], seed)
    return Prompt(tuple(chain), rest)


def _written(part: object) -> bytes:
    """orjson reads a thousand levels but writes 254: what is deeper is no prompt that anybody shares."""
    try:
        return orjson.dumps(part)
    except orjson.JSONEncodeError:
        return b""
