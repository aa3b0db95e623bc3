"""Tokens without a vocabulary: four bytes of UTF-8 are one.

A real tokenizer's share of English text (about four characters a token), but exact by arithmetic:
200 KB of prompt are counted in no time, blocks of the KV cache are slices of the text, and a prompt of
N tokens is any text of 4 N bytes. A token's number is its bytes as a little-endian integer; the last,
incomplete token of a text carries in its upper part how many bytes it lacks.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

WIDTH = 4
"""Bytes a token."""

# Three letters and a space are one token; a handful of them read like a telegram.
_LETTERS = (
    "the and for you one all out day get has him his how man new now old see two way who boy did its "
    "let put say she too use air big box car cat cow cup cut dog dry eat egg end eye far few fly fun "
    "got hat hot ice job key law lay leg lie lot low map may mix net oil our own pay red row run sea "
    "set sit six sky son sun tax tea ten try war win yes yet"
)
_WORDS = [word for word in _LETTERS.split() if len(word) == WIDTH - 1]
_TEXT_TOKENS = 1 << 16
TEXT = "".join(
    f"{word} " for word in random.Random(20261123).choices(_WORDS, k=_TEXT_TOKENS)
)  # what every answer is a part of
_TEXT_TWICE = TEXT + TEXT


def count(text: bytes) -> int:
    return -(-len(text) // WIDTH)


def encode(text: bytes) -> list[int]:
    whole = len(text) // WIDTH * WIDTH
    numbers = array("I", text[:whole]).tolist()
    if rest := text[whole:]:
        numbers.append(int.from_bytes(rest, "little") | (WIDTH - len(rest)) << 32)
    return numbers


def decode(numbers: Sequence[int]) -> bytes:
    """Raises OverflowError or ValueError for what is no token."""
    parts = []
    for number in numbers:
        lacking = number >> 32
        if not 0 <= lacking < WIDTH:
            raise ValueError(f"{number} is no token")
        parts.append((number & 0xFFFFFFFF).to_bytes(WIDTH, "little")[: WIDTH - lacking])
    return b"".join(parts)


def packed(numbers: Sequence[int]) -> bytes:
    """A prompt given as token numbers, as the text that hashes like it: four bytes each."""
    try:
        return array("I", numbers).tobytes()
    except OverflowError:
        return array("I", [number & 0xFFFFFFFF for number in numbers]).tobytes()


class Answer:
    """The text of one answer, cut in tokens; `plain` text needs no escaping in JSON."""

    __slots__ = ("_start", "_text", "plain", "tokens")

    def __init__(self, text: str, tokens: int, start: int = 0, plain: bool = False) -> None:
        self._text = text
        self._start = start
        self.tokens = tokens
        self.plain = plain

    @classmethod
    def words(cls, seed: int, tokens: int) -> Answer:
        """Words; the same seed gives the same text."""
        if tokens > _TEXT_TOKENS:  # longer than the store of words: say it again
            return cls(TEXT * (1 + tokens // _TEXT_TOKENS), tokens, plain=True)
        return cls(_TEXT_TWICE, tokens, seed % _TEXT_TOKENS * WIDTH, plain=True)

    @classmethod
    def exactly(cls, text: str) -> Answer:
        """This very text, which must be ASCII."""
        return cls(text, -(-len(text) // WIDTH))

    def piece(self, first: int, after: int) -> str:
        """The text of tokens `first` to `after - 1`."""
        start = self._start
        end = min(after, self.tokens) * WIDTH
        return self._text[start + first * WIDTH : start + end]

    @property
    def text(self) -> str:
        return self.piece(0, self.tokens)

    def bytes_between(self, start: int, end: int) -> bytes:
        """Bytes of the text, for hashing; what lies beyond its end is blank."""
        piece = self._text[self._start + start : self._start + end]
        return piece.encode().ljust(end - start)

    def cut(self, tokens: int) -> Answer:
        """The same text, ending after so many tokens."""
        return Answer(self._text, min(tokens, self.tokens), self._start, self.plain)

    def stop_at(self, stops: Sequence[str]) -> str | None:
        """End the text before the first of these strings; returns which it was. The tokens that spell
        the string are produced (and counted), but not told."""
        if not stops:
            return None
        text = self.text
        found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
        if not found:
            return None
        at, stop = min(found)
        self._text, self._start = text[:at], 0
        self.tokens = -(-(at + len(stop)) // WIDTH)
        return stop
