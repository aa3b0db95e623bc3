"""Who counts tokens: the server itself, a tokenizer file, or, failing both, the characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import httpx

from freehold.config import FreeholdError

# Texts on which tokenizers differ; equal counts on all of them are taken for the same tokenizer.
_PROBES = (
    "The quick brown fox jumps over the lazy dog.\n",
    "def __init__(self, *args, **kwargs) -> None:\n    super().__init__()\n",
    "Größenwahn, naïveté, 東京タワー, 12345678901234567890, \t\t\n\n",
    "internationalization antidisestablishmentarianism pneumonoultramicroscopic\n",
)
# English text has about four characters a token; the run then compares with the server's counts.
_CHARACTERS_A_TOKEN = 4.0


class TokenCounter(Protocol):
    exact: bool

    def count(self, text: str) -> int:
        """Tokens of a text inside a message."""
        ...

    def count_chat(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> int:
        """Tokens of a whole chat prompt, the chat template included."""
        ...


class ServerTokens:
    """Counts through the server's /tokenize (vLLM has it), so that counts are the engine's own."""

    exact = True

    def __init__(self, base_url: str, api_key: str | None, model: str) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=16)
        self._client = httpx.Client(
            base_url=base_url, headers=headers, timeout=60.0, limits=limits, trust_env=False
        )
        self._model = model

    def works(self) -> bool:
        try:
            return self.count("one two three") > 0
        except (httpx.HTTPError, KeyError, ValueError, TypeError):
            return False

    def count(self, text: str) -> int:
        # Special tokens belong to the whole prompt, not to each piece of it.
        return self._ask({"prompt": text, "add_special_tokens": False})

    def count_chat(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> int:
        return self._ask({"messages": messages, **({"tools": tools} if tools else {})})

    def _ask(self, body: dict[str, Any]) -> int:
        answer = self._client.post("/tokenize", json={"model": self._model, **body})
        answer.raise_for_status()
        return int(answer.json()["count"])


class FileTokens:
    """Counts with a `tokenizer.json`; what the chat template adds is not known and taken as nothing."""

    exact = True

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise FreeholdError(f"--tokenizer {path}: there is no tokenizer.json")
        self._tokenizer = Tokenizer.from_file(str(file))

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def count_chat(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> int:
        return sum(self.count(message.get("content") or "") for message in messages)


class CharacterTokens:
    """For servers that count for nobody: lengths are approximate, and the report says so."""

    exact = False

    def count(self, text: str) -> int:
        return max(1, round(len(text) / _CHARACTERS_A_TOKEN))

    def count_chat(self, messages: list[dict[str, Any]], tools: list[Any] | None = None) -> int:
        return sum(self.count(message.get("content") or "") for message in messages)


def token_counter(
    base_url: str, api_key: str | None, model: str, tokenizer: Path | None
) -> TokenCounter:
    if tokenizer is not None:
        return FileTokens(tokenizer)
    server = ServerTokens(base_url, api_key, model)
    return server if server.works() else CharacterTokens()


def fingerprint(counter: TokenCounter) -> str:
    """Names a tokenizer by what it makes of a few texts (and the format of the cached corpus)."""
    return f"2:{counter.exact}:" + ",".join(str(counter.count(text)) for text in _PROBES)
