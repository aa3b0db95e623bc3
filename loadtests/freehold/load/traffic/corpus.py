"""Real text in pieces of known token counts, so that a prompt of any length is put together, never
tokenised, while the load runs.

The text is what every Python carries: its language reference (prose) and its standard library (code).
A piece is whole lines and ends with a newline, where tokenizers do not merge; that this holds for the
model at hand is checked on whole prompts, and the server's own counts are compared after the run.
"""

from __future__ import annotations

import hashlib
import random
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

Count = Callable[[str], int]
"""Tokens of a text, as the model sees it inside a message."""

# About 100 tokens a piece: 500 are 50,000 tokens of text that does not repeat.
_PIECE_CHARACTERS = 420
_PIECES = 500
# Common English words, of which most are one token in any tokenizer; those that are not are left out.
_WORDS = files("freehold.load.traffic").joinpath("words.txt").read_text(encoding="utf-8").split()
# How a line of words begins, and how often a word is said to see what it counts.
_LINE, _REPEATED = "so: ", 8
# The simulated engine's token is four bytes: pieces and lines of whole ones add up there as well.
_BYTES = 4
# A tokenizer that merges across lines by more than this cannot be given exact lengths in this way.
_MERGED = 0.005
_CHECKS = 8


@dataclass(frozen=True)
class Piece:
    text: str
    tokens: int


@dataclass(frozen=True)
class Corpus:
    """`words`: single-token words, to fill a prompt up to the exact length and to salt it."""

    prose: tuple[Piece, ...]
    code: tuple[Piece, ...]
    words: tuple[str, ...]
    word_base: int
    """Tokens of a line of words beyond one for each word."""
    exact: bool = True
    """False: lengths are estimates. Nobody could count tokens, or pieces do not add up."""

    def words_line(self, count: int, rng: random.Random) -> Piece:
        """A line of `count` words."""
        chosen = " ".join(rng.choice(self.words) for _ in range(count))
        return Piece(f"{_LINE}{chosen}\n", self.word_base + count)


def load_corpus(cache: Path, fingerprint: str, count: Count, exact: bool = True) -> Corpus:
    """The corpus counted with this tokenizer, from the cache or made now (some 1,100 counts).

    `fingerprint` names the tokenizer: another one never gets these counts.
    """
    path = cache / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.json"
    if (found := _read(path)) is not None:
        return found
    corpus = make_corpus(count, exact)
    if exact and additive(corpus, count) > _MERGED:
        corpus = replace(corpus, exact=False)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{random.getrandbits(32):08x}")
    temporary.write_bytes(orjson.dumps(asdict(corpus)))
    temporary.replace(path)
    return corpus


def make_corpus(count: Count, exact: bool = True) -> Corpus:
    """Count every piece, eight at a time."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        prose, code = (
            [
                Piece(text, tokens)
                for text, tokens in zip(texts, pool.map(count, texts), strict=True)
            ]
            for texts in (_prose(), _code())
        )
        counts = pool.map(lambda word: count(_line_of(word)), _WORDS)
    plain = count(_line_of("the"))
    words = tuple(w for w, n in zip(_WORDS, counts, strict=True) if n == plain)
    return Corpus(tuple(prose), tuple(code), words or ("the",), plain - _REPEATED, exact)


def _line_of(word: str) -> str:
    return f"{_LINE}{' '.join([word] * _REPEATED)}\n"


def additive(corpus: Corpus, count: Count) -> float:
    """The largest share by which a text of many pieces counts other than its pieces do."""
    rng = random.Random(0)
    worst = 0.0
    for number in range(_CHECKS):
        pieces = list(rng.sample(corpus.prose if number % 2 else corpus.code, 20))
        pieces.append(corpus.words_line(17 + number, rng))
        wanted = sum(piece.tokens for piece in pieces)
        worst = max(worst, abs(count("".join(p.text for p in pieces)) - wanted) / wanted)
    return worst


def _prose() -> list[str]:
    from pydoc_data import topics

    lines: list[str] = []
    for _, text in sorted(topics.topics.items()):
        lines += [line.strip() for line in textwrap.dedent(text).splitlines()]
    return _pieces(line for line in lines if len(line) > 20 and line[0].isalpha())


def _code() -> list[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    names = (
        "argparse",
        "ast",
        "asyncio/base_events",
        "dataclasses",
        "difflib",
        "enum",
        "http/client",
    )
    names += (
        "inspect",
        "logging/__init__",
        "pathlib",
        "subprocess",
        "tarfile",
        "typing",
        "zipfile",
    )
    lines: list[str] = []
    for name in names:
        path = folder / f"{name}.py"
        if path.is_file():
            lines += path.read_text(encoding="utf-8").splitlines()
    return _pieces(line for line in lines if line.strip())


def _pieces(lines: Iterable[str]) -> list[str]:
    """Whole lines up to the size of a piece; each piece starts with a character that is no space."""
    pieces: list[str] = []
    piece = ""
    for line in filter(str.isascii, lines):
        piece += (line.strip() if not piece else line.rstrip()) + "\n"
        if len(piece) >= _PIECE_CHARACTERS:
            pieces.append(_whole(piece))
            piece = ""
        if len(pieces) == _PIECES:
            break
    return pieces


def _whole(piece: str) -> str:
    """Cut to whole simulated tokens, with no space before the newline: tokenizers merge the two."""
    text = piece[: -1 - len(piece) % _BYTES]
    while text[-1].isspace():
        text = text[:-_BYTES]
    return text + "\n"


def _read(path: Path) -> Corpus | None:
    try:
        data = orjson.loads(path.read_bytes())
        return Corpus(
            prose=_known(data["prose"]),
            code=_known(data["code"]),
            words=tuple(data["words"]),
            word_base=data["word_base"],
            exact=data["exact"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or of another version: it is made anew


def _known(pieces: Sequence[dict[str, Any]]) -> tuple[Piece, ...]:
    return tuple(Piece(piece["text"], piece["tokens"]) for piece in pieces)
