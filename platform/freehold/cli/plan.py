"""`freehold plan`: what a stack will be, hold, do and cost, before anything is bought."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click

from freehold.config import FreeholdError, load_stack
from freehold.config.loader import stack_file

from .checkout import checkout_root


@click.command("plan")
@click.argument("stack", required=False)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option(
    "--alternatives", is_flag=True, help="Everything that was considered, and why it lost."
)
@click.option("--what-if", metavar="K=V,...", help="Compare with other values, as concurrency=64.")
@click.option("--write", is_flag=True, help="Pin the placement in the stack file.")
@click.option("--all", "every", is_flag=True, help="The cost of all stacks together.")
@click.option(
    "--model-config",
    "model_configs",
    multiple=True,
    metavar="[MODEL=]PATH",
    help="config.json of a model that the catalog lacks, or `hub` to fetch it.",
)
@click.option("--schema", is_flag=True, help="The JSON Schema of stack files, for editors.")
def command(
    stack: str | None,
    as_json: bool,
    alternatives: bool,
    what_if: str | None,
    write: bool,
    every: bool,
    model_configs: tuple[str, ...],
    schema: bool,
) -> None:
    """Plan STACK: placement, memory, speed and price. Nothing is created.

    Exit code 0: the plan; 2: refused, with every reason and the nearest thing that works.
    """
    if schema:
        from freehold.config.schema import stack_file_schema

        click.echo(json.dumps(stack_file_schema(), indent=2))
        return
    root = checkout_root()
    if every:
        from . import plan_all

        plan_all.show(root, _today(), as_json=as_json)
        return
    if stack is None:
        raise FreeholdError("name a stack, as in `freehold plan small`, or say --all")
    if what_if:
        from . import plan_what_if

        plan_what_if.show(stack, root, what_if, model_configs, _today(), as_json=as_json)
        return
    _plan_one(stack, root, model_configs, as_json=as_json, alternatives=alternatives, write=write)


def _plan_one(
    stack: str,
    root: Path,
    model_configs: tuple[str, ...],
    *,
    as_json: bool,
    alternatives: bool,
    write: bool,
) -> None:
    # Imported here: `--help`, `--schema` and a mistake in the file need none of it.
    from freehold.planning.plan import make_plan

    from .plan_models import models_for

    wanted = load_stack(stack, root)
    plan = make_plan(stack, wanted, models=models_for(wanted, model_configs), today=_today())
    if write:
        from .plan_write import pin

        pin(stack_file(stack, root), plan)
    if as_json:
        from freehold.planning.to_json import plan_to_json

        click.echo(json.dumps(plan_to_json(plan, alternatives=alternatives), indent=2))
    else:
        from .plan_screen import show

        show(plan, alternatives=alternatives)
    if write:
        click.echo(f"pinned in Pulumi.{stack}.yaml", err=True)


def _today() -> str:
    """The one place where planning meets a clock."""
    return datetime.date.today().isoformat()
