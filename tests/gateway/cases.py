"""How a claim about the gateway is written: a function that holds before a sound configuration, and the
broken ones that it must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Json = dict[str, Any]
D = TypeVar("D")
Mutation = Callable[[Json], None]
"""Breaks a built Envoy configuration in place."""


@dataclass(frozen=True)
class Case(Generic[D]):
    """One claim, shown on a door (or on a bench: a door with stub engines behind it)."""

    run: Callable[[D], None]
    broken_by: tuple[Mutation, ...]
    picker: bool | None
    """Needs the endpoint picker (True), needs that there is none (False), or holds both ways."""

    @property
    def name(self) -> str:
        return getattr(self.run, "__name__", str(self.run))


class Suite(Generic[D]):
    """The claims of one file, in order."""

    def __init__(self) -> None:
        self.cases: list[Case[D]] = []

    def case(
        self, *broken_by: Mutation, picker: bool | None = None
    ) -> Callable[[Callable[[D], None]], Callable[[D], None]]:
        def register(run: Callable[[D], None]) -> Callable[[D], None]:
            self.cases.append(Case(run, broken_by, picker))
            return run

        return register
