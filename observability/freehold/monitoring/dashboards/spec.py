"""What a dashboard is before Grafana's JSON: rows of panels, each with its queries and one unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "lines", "table"]
# Grafana's names of units; a figure has the same one wherever it stands.
Unit = Literal[
    "s",  # seconds
    "short",
    "reqps",
    "suffix: tokens/s",
    "percentunit",
    "bytes",
    "mbytes",
    "currencyUSD",
    "celsius",
    "watt",
    "dtdurations",
]

# Colours begin at these values; the first is that of everything below.
Steps = tuple[tuple[float, str], ...]
GOOD_AT_ONE: Steps = ((0, "red"), (1, "green"))


@dataclass(frozen=True)
class Query:
    expression: str
    legend: str = ""
    is_plan: bool = False
    """Drawn dashed: what the plan says, beside what is."""


@dataclass(frozen=True)
class Panel:
    title: str
    meaning: str
    queries: tuple[Query, ...]
    unit: Unit
    kind: Kind = "lines"
    steps: Steps = ()
    most: float | None = None
    """Upper end of the axis, where the unit does not say it."""
    width: int = 8
    """Of 24."""


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the page, from the values of a label; several at once, or all."""

    name: str
    series: str
    label: str


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    meaning: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)


def planned(expression: str, legend: str = "plan") -> Query:
    return Query(expression, legend, is_plan=True)
