"""`freehold status`: the truth about a stack on this machine."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from freehold.local import runtime
from freehold.local.home import StackHome
from freehold.local.runtime import ProcessStatus

from .checkout import checkout_root


@click.command("status")
@click.argument("stack", default="local")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--bill", is_flag=True, help="Instead: what AWS billed, beside what was planned.")
@click.option(
    "--days", type=click.IntRange(1, 365), default=7, show_default=True, help="Of --bill."
)
def command(stack: str, as_json: bool, bill: bool, days: int) -> None:
    """Say what runs of STACK and how it is, asked of the processes themselves.

    Exit code 0: all healthy; 1: something is not; 3: the stack does not run.
    """
    if bill:
        from .bill import show

        sys.exit(show(stack, days))
    rows = runtime.status(StackHome.of(checkout_root(), stack).folder)
    healthy = bool(rows) and all(row.healthy for row in rows)
    if as_json:
        processes = [row.to_json() for row in rows]
        click.echo(json.dumps({"stack": stack, "healthy": healthy, "processes": processes}))
    elif rows:
        Console().print(_table(rows))
    else:
        click.echo(f"stack {stack} does not run; `freehold up {stack}` starts it")
    sys.exit(0 if healthy else 1 if rows else 3)


def _table(rows: list[ProcessStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("process", "role", "pool", "pid", "port", "memory", "restarts", "health"):
        table.add_column(
            heading, justify="right" if heading in _NUMBERS else "left", no_wrap=heading != "health"
        )
    for row in rows:
        colour = "green" if row.healthy else "red"
        table.add_row(
            row.name,
            row.role,
            row.pool or "",
            str(row.pid or "-"),
            str(row.port or ""),
            f"{row.memory_gib:.2f} GiB" if row.pid else "-",
            str(row.restarts),
            Text(row.phase, colour).append(f" {row.detail}" if row.detail else "", "dim"),
        )
    return table


_NUMBERS = {"pid", "port", "memory", "restarts"}
