"""What a PromQL expression reads: its selectors, and the windows it looks back over.

No more of the language than that: whether an expression is well-formed is promtool's word. Grammar:
Prometheus's promql/parser/lex.go (2.42).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKENS = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<duration>(?:\d+(?:ms|[smhdwy]))+\b)
      | (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[a-zA-Z_][a-zA-Z0-9_:]*)
      | (?P<matcher>=~|!~|==|!=|=)
      | (?P<symbol>[-+*/%^<>@(){}\[\],:]=?)
    """,
    re.VERBOSE,
)
# Words before a parenthesis with label names in it.
_GROUPING = ("by", "without", "on", "ignoring", "group_left", "group_right")
_WORDS = (
    *_GROUPING,
    "and",
    "or",
    "unless",
    "atan2",
    "bool",
    "offset",
    "start",
    "end",
    "inf",
    "nan",
)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str


@dataclass(frozen=True)
class Selector:
    """One metric as an expression reads it."""

    name: str
    matchers: tuple[Matcher, ...] = ()
    function: str | None = None
    """The function or aggregation directly around it."""
    window: float | None = None
    """Seconds, of a range selector."""


@dataclass(frozen=True)
class Expression:
    selectors: tuple[Selector, ...]
    grouping: frozenset[str]
    """Every label that a clause names: by, without, on, ignoring, group_left, group_right."""


class _Token(NamedTuple):
    kind: str
    text: str


def parse(expression: str) -> Expression:
    """Raises ValueError at what is no PromQL token."""
    return _Reader(list(_tokens(expression))).read()


def seconds(duration: str) -> float:
    """Of a duration such as `5m` or `1h30m`."""
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def with_windows(expression: str, change: Callable[[float], str]) -> str:
    """The same expression with every duration replaced by what `change` makes of its seconds."""
    parts = []
    for token in _tokens(expression, spaces=True):
        is_window = token.kind == "duration"
        parts.append(change(seconds(token.text)) if is_window else token.text)
    return "".join(parts)


def windows(expression: str) -> list[float]:
    """Seconds of every duration in it."""
    return [seconds(token.text) for token in _tokens(expression) if token.kind == "duration"]


def _tokens(expression: str, *, spaces: bool = False) -> Iterator[_Token]:
    place = 0
    while place < len(expression):
        match = _TOKENS.match(expression, place)
        if match is None:
            raise ValueError(f"no PromQL at {expression[place : place + 20]!r}")
        kind = match.lastgroup or ""
        if spaces or kind != "space":
            yield _Token(kind, match.group())
        place = match.end()


@dataclass
class _Reader:
    tokens: list[_Token]
    place: int = 0
    calls: list[str | None] = field(default_factory=list)
    """What stands before each parenthesis that is open."""
    selectors: list[Selector] = field(default_factory=list)
    grouping: set[str] = field(default_factory=set)

    def read(self) -> Expression:
        while self.place < len(self.tokens):
            self._step()
        return Expression(tuple(self.selectors), frozenset(self.grouping))

    def _step(self) -> None:
        token, following = self.tokens[self.place], self._text(1)
        self.place += 1
        if token.kind == "name" and token.text.lower() in _GROUPING and following == "(":
            self.grouping.update(self._labels())
        elif token.kind == "name" and following == "(":
            self.place += 1
            self.calls.append(token.text)
        elif token.kind == "name" and (following in ("by", "without") and self._is_aggregation()):
            self._aggregation(token.text)
        elif token.kind == "name" and token.text.lower() not in _WORDS:
            self._selector(token.text)
        elif token.text == "{":
            self.place -= 1
            self._selector("")
        elif token.text == "(":
            self.calls.append(None)
        elif token.text == ")" and self.calls:
            self.calls.pop()

    def _text(self, ahead: int = 0) -> str:
        """Of the token so many places after the one being read."""
        place = self.place + ahead
        return self.tokens[place].text if place < len(self.tokens) else ""

    def _is_aggregation(self) -> bool:
        return self._text(1) == "("

    def _aggregation(self, name: str) -> None:
        """`sum by (pool) (`: the clause stands between the name and its parenthesis."""
        self.place += 1
        self.grouping.update(self._labels())
        if self._text() == "(":
            self.place += 1
            self.calls.append(name)

    def _labels(self) -> list[str]:
        """The names in the parentheses that open here."""
        names = []
        self.place += 1
        while self._text() not in (")", ""):
            if self.tokens[self.place].kind == "name":
                names.append(self._text())
            self.place += 1
        self.place += 1
        return names

    def _selector(self, name: str) -> None:
        matchers = tuple(self._matchers()) if self._text() == "{" else ()
        window = None
        if self._text() == "[":
            window = seconds(self._text(1))
        if not name:
            name = next((m.value for m in matchers if m.label == "__name__"), "")
        function = self.calls[-1] if self.calls else None
        self.selectors.append(Selector(name, matchers, function, window))

    def _matchers(self) -> Iterator[Matcher]:
        self.place += 1
        while self._text() not in ("}", ""):
            if self._text() == ",":
                self.place += 1
                continue
            label, operator, value = (self._text(ahead) for ahead in range(3))
            yield Matcher(label, operator, value[1:-1])
            self.place += 3
        self.place += 1
