"""Faults that a test asks for: of the whole replica, or of one request."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

Fault = Literal["error", "hang", "garbage", "break", "crash"]


@dataclass
class Faults:
    """What is wrong with a replica now. All of it can be taken back but a crash."""

    slow: float = 1.0
    """Every step takes so many times longer."""
    hung: bool = False
    """The engine core stands still: requests are taken and never answered; health is fine."""
    dead: bool = False
    """The engine core is gone and the API server still there: health 503, requests 500."""
    kv_taken: float = 0.0
    """Share of the KV cache that is withheld from requests."""
    error_rate: float = 0.0
    """Share of requests answered with 500."""
    garbage_rate: float = 0.0
    """Share of streams that turn into what is no event stream."""
    break_rate: float = 0.0
    """Share of answers whose connection breaks off in the middle."""

    def update(self, given: Mapping[str, Any]) -> None:
        """Raises ValueError for an unknown name or a value of the wrong kind."""
        known = {field.name: field for field in fields(self)}
        for name, value in given.items():
            if name not in known:
                raise ValueError(
                    f"unknown fault {name!r}; there are: {', '.join([*known, 'crash'])}"
                )
            kind = type(known[name].default)
            if kind is bool and not isinstance(value, bool):
                raise ValueError(f"{name} is true or false")
            if kind is float and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name} is a number")
        for name, value in given.items():
            setattr(self, name, value)

    def strike(self, chance: random.Random) -> Fault | None:
        """What goes wrong with the next request by the replica's rates."""
        for rate, fault in (
            (self.error_rate, "error"),
            (self.garbage_rate, "garbage"),
            (self.break_rate, "break"),
        ):
            if rate and chance.random() < rate:
                return fault  # type: ignore[return-value]
        return None
