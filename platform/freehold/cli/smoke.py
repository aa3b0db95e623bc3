"""`freehold smoke`: every endpoint, once, through the gateway."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from freehold.config import load_stack
from freehold.local.home import StackHome
from freehold.local.smoke import SmokeResult, smoke
from freehold.planning.plan import Plan, make_plan

from .checkout import checkout_root

# Columns of the table; in a narrower terminal its lines wrap, but nothing is left out.
_WIDTH = 110


@click.command("smoke")
@click.argument("stack", default="local")
def command(stack: str) -> None:
    """Try every endpoint of STACK through its gateway and print a table.

    Exit code 0: all answered as they should; 1: at least one did not.
    """
    root = checkout_root()
    plan = make_plan(stack, load_stack(stack, root))
    sys.exit(0 if run_smoke(plan, StackHome.of(root, stack)) else 1)


def run_smoke(plan: Plan, home: StackHome) -> bool:
    """Print the table; True when every endpoint answered as it should."""
    base_url = f"http://{plan.gateway.host}:{plan.gateway.port}"
    results = smoke(base_url, home.first_key(), plan.pools)
    Console(width=max(Console().width, _WIDTH)).print(_table(results))
    return all(result.ok for result in results)


def _table(results: list[SmokeResult]) -> Table:
    table = Table(
        title="smoke test, through the gateway", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("endpoint", no_wrap=True)
    table.add_column("model", no_wrap=True)
    table.add_column("status", justify="right")
    table.add_column("ms", justify="right")
    table.add_column("answer")
    for result in results:
        mark = "[green]ok[/green]" if result.ok else "[red]FAILED[/red]"
        table.add_row(
            result.endpoint,
            result.model,
            str(result.status or "-"),
            f"{result.milliseconds:.0f}",
            Text.from_markup(mark).append(f" {result.detail}"),  # an answer is no markup
        )
    return table
