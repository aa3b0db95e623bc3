"""`freehold status --bill`: planned against billed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError, load_stack
from freehold.config.target import EksTarget

from .checkout import checkout_root
from .preflight import session_with_credentials

if TYPE_CHECKING:
    from freehold.cluster.bill import Line


def show(stack: str, days: int) -> int:
    """Prints both, for the last whole days; the exit code: 1 when nothing was billed."""
    from botocore.exceptions import BotoCoreError, ClientError

    from freehold.cluster.bill import TAG, billed, compare
    from freehold.planning.plan import make_plan

    wanted = load_stack(stack, checkout_root())
    if not isinstance(wanted.target, EksTarget):
        raise FreeholdError(
            f"stack {stack} has no bill that is known by its tag: only EKS stacks do"
        )
    session = session_with_credentials(wanted.target.region)
    if session is None:
        raise FreeholdError("--bill asks AWS Cost Explorer, and there are no AWS credentials here")
    cost = make_plan(stack, wanted).cost
    assert cost is not None, "an EKS stack has a price"
    end = datetime.now(UTC).date()
    start = end - timedelta(days=days)
    try:
        found = billed(session, stack, start, end)
    except (BotoCoreError, ClientError) as error:
        raise FreeholdError(f"Cost Explorer could not be asked: {error}") from error
    if not found:
        click.echo(
            f"nothing was billed with the tag {TAG}={stack} from {start} to {end}: either it did not "
            "run, or the tag is not activated for the bill (Billing, Cost allocation tags; from then "
            "on it counts, a day later)"
        )
        return 1
    click.echo(f"{stack}, {days} days to {end}, US dollars")
    Console().print(_table(compare(cost, found, days)))
    return 0


def _table(lines: list[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("planned", "billed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        planned = "not in the plan" if line.planned is None else f"{line.planned:,.2f}"
        table.add_row(line.name, planned, f"{line.billed:,.2f}")
    table.add_section()
    total = sum(line.planned or 0.0 for line in lines)
    table.add_row("together", f"{total:,.2f}", f"{sum(line.billed for line in lines):,.2f}")
    return table
