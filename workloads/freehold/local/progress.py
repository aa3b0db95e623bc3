"""Live progress of a start: one line a process on a terminal, one line a change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from freehold.local.process import Phase
from freehold.local.status import ProcessStatus

_STYLE: dict[Phase, str] = {
    "waiting": "dim",
    "starting": "yellow",
    "healthy": "green",
    "unhealthy": "red",
    "stopping": "yellow",
    "backoff": "red",
    "stopped": "dim",
    "failed": "bold red",
}


class Progress:
    """Give it to `runtime.apply` or `down`; use it as a context manager.

    On a terminal the lines stay in place and change; in a pipe or CI log each change of phase is a line.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.began = time.monotonic()
        self._live: Live | None = None
        self._phases: dict[str, Phase] = {}

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def __call__(self, rows: Sequence[ProcessStatus]) -> None:
        if self._live:
            self._live.update(_table(rows))
        else:
            self._print_changes(rows)

    def _print_changes(self, rows: Sequence[ProcessStatus]) -> None:
        for row in rows:
            if self._phases.get(row.name) != row.phase:
                self._phases[row.name] = row.phase
                spent = time.monotonic() - self.began
                line = f"{spent:6.1f} s  {row.name:<14} {row.phase:<9} {_note(row)}"
                self.console.print(Text(line.rstrip()), soft_wrap=True)


def _table(rows: Sequence[ProcessStatus]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in rows:
        style = _STYLE[row.phase]
        table.add_row(
            Text(row.name), Text(row.phase, style), Text(_note(row), "dim", overflow="ellipsis")
        )
    return table


def _note(row: ProcessStatus) -> str:
    """How long it took, or how long it has been at it and what it waits for."""
    if row.phase == "healthy":
        return f"{row.ready_seconds:.1f} s" if row.ready_seconds is not None else ""
    if row.phase == "starting":
        return f"{time.time() - row.since:.0f} s" if row.since else ""
    return row.detail
