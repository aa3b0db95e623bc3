"""Messages of an exact number of tokens, put together from counted pieces."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from freehold.config import FreeholdError

from .corpus import Corpus, Piece
from .tokens import TokenCounter

Style = Literal["prose", "code"]
# The last words of each message: no newline at its end, because chat templates trim it.
_CLOSING = "Go on."
# One in 130**8 that two runs share a salt of eight words.
SALT_WORDS = 8


@dataclass(frozen=True)
class Template:
    """Tokens that the chat template adds: once a prompt, and with each further message of a role."""

    opening: int
    """A single user message's prompt beyond its content."""
    system: int
    exchange: int
    """An assistant message and the user message after it."""
    tool_exchange: int | None
    """An assistant message and the tool's result after it; None: the template knows no tools."""
    tools: int = 0
    """The definitions of the offered tools."""
    closing: int = 2
    """Tokens of the words that end each message."""

    @classmethod
    def measured(cls, counter: TokenCounter, tools: list[Any] | None = None) -> Template:
        """By counting prompts that differ in one message."""
        said = {"content": _CLOSING}
        user, reply, rules = ({"role": r, **said} for r in ("user", "assistant", "system"))
        closing = counter.count(_CLOSING)
        alone = counter.count_chat([user])
        ruled = counter.count_chat([rules, user])
        exchange = counter.count_chat([user, reply, user]) - alone
        with_tool, offered = None, 0
        try:
            if tools:
                offered = counter.count_chat([rules, user], tools) - ruled
            result = {"role": "tool", "tool_call_id": "call-1", **said}
            more = counter.count_chat([rules, user, reply, result], tools)
            with_tool = more - ruled - offered - 2 * closing
        except Exception:  # the server refuses what its template does not know, each in its way
            with_tool, offered = None, 0
        return cls(
            opening=alone - closing,
            system=ruled - alone - closing,
            exchange=exchange - 2 * closing,
            tool_exchange=with_tool,
            tools=offered,
            closing=closing,
        )


class TextMaker:
    """Makes texts of exact lengths. `salt` names the run: another run's texts begin otherwise, so no
    cache has seen them, while the same salt makes the same texts."""

    def __init__(self, corpus: Corpus, template: Template, salt: str) -> None:
        self.corpus = corpus
        self.template = template
        self.salt = salt
        self._shared: dict[tuple[int, str, Style], str] = {}

    def rng(self, *names: object) -> random.Random:
        """Randomness that depends on the run's salt and on who asks, and on nothing else."""
        return random.Random(":".join([self.salt, *map(str, names)]))

    def text(self, tokens: int, rng: random.Random, style: Style = "prose") -> str:
        """A message's content of exactly so many tokens. It begins with words of its own."""
        least = self.shortest
        if tokens < least:
            raise FreeholdError(f"a message of {tokens} tokens is too short: {least} is the least")
        return "".join(p.text for p in self._pieces(tokens, rng, style)) + _CLOSING

    def shared(self, tokens: int, name: str, style: Style = "prose") -> str:
        """Exactly so many tokens that the whole run has in common under a name.

        It ends with a newline: whatever follows, it counts the same.
        """
        key = (tokens, name, style)
        if key not in self._shared:
            body = self.text(tokens + self.template.closing, self.rng("shared", name), style)
            self._shared[key] = body[: body.rindex("\n") + 1]
        return self._shared[key]

    @property
    def shortest(self) -> int:
        return self.template.closing + self.corpus.word_base + 1

    def _pieces(self, tokens: int, rng: random.Random, style: Style) -> list[Piece]:
        room = tokens - self.template.closing
        base = self.corpus.word_base
        salt = self.corpus.words_line(max(1, min(SALT_WORDS, room - base)), rng)
        pieces, room = [salt], room - salt.tokens
        source = self.corpus.prose if style == "prose" else self.corpus.code
        # What is left at the end must be nothing, or long enough for a line of words.
        while room >= _largest(source) + base + 1:
            piece = source[rng.randrange(len(source))]
            pieces.append(piece)
            room -= piece.tokens
        if room > base:
            pieces.append(self.corpus.words_line(room - base, rng))
        elif room:
            # Too little for a line of its own: the first line grows by it.
            pieces[0] = self.corpus.words_line(salt.tokens - base + room, rng)
        return pieces


_LARGEST: dict[int, int] = {}


def _largest(pieces: Sequence[Piece]) -> int:
    if id(pieces) not in _LARGEST:
        _LARGEST[id(pieces)] = max(piece.tokens for piece in pieces)
    return _LARGEST[id(pieces)]
