"""`freehold down`: stop a stack and leave nothing behind."""

from __future__ import annotations

import click

from freehold.local import runtime
from freehold.local.home import StackHome

from .checkout import checkout_root


@click.command("down")
@click.argument("stack", default="local")
def command(stack: str) -> None:
    """Stop STACK: no process, shared memory or socket of it remains.

    Keys, logs and model files stay in `.freehold/`. Stopping what does not run is no error.
    """
    stopped = runtime.down(StackHome.of(checkout_root(), stack).folder)
    if stopped:
        click.echo(f"stopped {len(stopped)} processes of stack {stack}: {', '.join(stopped)}")
    else:
        click.echo(f"stack {stack} was not running")
