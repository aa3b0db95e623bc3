"""`freehold init`: a stack file out of five answers, or out of production-stack's chart values."""

from __future__ import annotations

import datetime
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from freehold.config import FreeholdError, Stack, parse_stack
from freehold.config.inheritance import merge
from freehold.config.loader import load_tree

from .checkout import checkout_root
from .init_answers import WHERE, Answers, Machines
from .init_draft import Draft, already_there, write_new
from .init_tasks import TASKS

if TYPE_CHECKING:
    from freehold.planning.plan import Plan

    from .init_helm import Converted

_NAME = re.compile(r"^[a-z][a-z0-9-]{0,38}$")


@click.command("init")
@click.argument("name", default="mine")
@click.option("--task", type=click.Choice(list(TASKS)), help="What the model is for.")
@click.option("--model", help="Instead of a task: a catalog name, a hub id or a folder.")
@click.option("--context", type=click.IntRange(16), help="Longest prompt plus answer, tokens.")
@click.option("--users", type=click.IntRange(1), help="People or agents at work at once.")
@click.option("--where", type=click.Choice(list(WHERE)), help="Where it runs.")
@click.option("--budget", type=click.FloatRange(1), help="US dollars a month, all in.")
@click.option("--region", default="us-east-2", show_default=True, help="With --where aws.")
@click.option("--gpu", default="L40S", show_default=True, help="With --where own: the GPU.")
@click.option("--gpus", default=1, type=click.IntRange(1, 16), help="... GPUs a machine.")
@click.option("--machines", default=1, type=click.IntRange(1), help="... how many machines.")
@click.option(
    "--from-helm",
    "values",
    type=click.Path(path_type=Path),
    metavar="VALUES.YAML",
    help="Convert values of production-stack's chart, and say what became of every key.",
)
@click.option(
    "--model-config",
    "model_configs",
    multiple=True,
    metavar="[MODEL=]PATH",
    help="config.json of a model that the catalog lacks, or `hub` to fetch it.",
)
@click.option("--ask/--no-ask", default=None, help="Ask what no option says; on a terminal: yes.")
@click.option("--draft", is_flag=True, help="Write the file even when its plan is refused.")
def command(
    name: str,
    task: str | None,
    model: str | None,
    context: int | None,
    users: int | None,
    where: str | None,
    budget: float | None,
    region: str,
    gpu: str,
    gpus: int,
    machines: int,
    values: Path | None,
    model_configs: tuple[str, ...],
    ask: bool | None,
    draft: bool,
) -> None:
    """Write Pulumi.NAME.yaml and show its plan.

    Five questions: model or task, context, users, where, budget. Each has an option; what has none
    said is asked on a terminal, and elsewhere takes the task's value. A file that is there is never
    touched. Exit code 0: written; 2: refused, nothing written.
    """
    path = _new_file(name)
    if task and model:
        raise FreeholdError("--task and --model: say one of them; a task brings its model")
    asking = sys.stdin.isatty() if ask is None else ask
    answers = Answers(
        wanted=model or task or ("chat" if values or not asking else _ask_wanted()),
        where=where or ("aws" if not asking else _ask_where()),
        context=context,
        users=users,
        usd_per_month=budget,
        region=region,
        machines=Machines(gpu, gpus, machines),
    )
    if asking and not values:
        answers = _ask_numbers(answers)
    if values:
        from . import init_helm

        converted = init_helm.convert_file(values, answers, _typed())
        _from_helm(path, converted, model_configs, keep=draft)
        return
    from .init_answers import draft as drafted

    made = drafted(answers, _typed())
    plan, refusal = _planned(name, made, path.parent, model_configs)
    _finish(path, made, plan, refusal, keep=draft)


# --- The questions -----------------------------------------------------------------------------------


def _ask_wanted() -> str:
    listed = ", ".join(f"{name} ({task.says})" for name, task in TASKS.items())
    return click.prompt(f"1. Model or task: {listed}, or a model's name", default="chat")


def _ask_where() -> str:
    listed = ", ".join(f"{name} ({says})" for name, says in WHERE.items())
    return click.prompt(f"2. Where: {listed}", type=click.Choice(list(WHERE)), default="aws")


def _ask_numbers(answers: Answers) -> Answers:
    """Questions three to five; a laptop is asked one of them."""
    from dataclasses import replace

    if answers.context is None:
        said = click.prompt(
            "3. Context: longest prompt plus answer, in tokens",
            type=click.IntRange(16),
            default=4096 if answers.where == "laptop" else answers.longest,
        )
        answers = replace(answers, context=said)
    if answers.where == "laptop":
        return answers
    if answers.users is None:
        said = click.prompt(
            "4. Users: people or agents at work at once",
            type=click.IntRange(1),
            default=answers.task.users,
        )
        answers = replace(answers, users=said)
    if answers.usd_per_month is None:
        said = click.prompt(
            "5. Budget in US dollars a month, 0 for none", type=click.FloatRange(0), default=0.0
        )
        answers = replace(answers, usd_per_month=said or None)
    return answers


# --- The file ----------------------------------------------------------------------------------------


def _new_file(name: str) -> Path:
    if not _NAME.match(name):
        raise FreeholdError(
            f'"{name}" cannot name a stack: lower-case letters, digits and dashes, a letter first'
        )
    path = checkout_root() / f"Pulumi.{name}.yaml"
    if path.exists():
        raise already_there(path)
    return path


def _typed() -> str:
    """The command as it was typed, for the file's first lines."""
    return shlex.join(["freehold", *sys.argv[1:]]) if sys.argv[1:2] == ["init"] else "freehold init"


def _planned(
    name: str, made: Draft, root: Path, model_configs: tuple[str, ...]
) -> tuple[Plan | None, FreeholdError | None]:
    """The plan, or why there is none. A file that the loader refuses is a mistake in the answers."""
    from freehold.planning.plan import make_plan

    from .plan_models import models_for

    stack = _parsed(name, made, root)
    try:
        today = datetime.date.today().isoformat()
        return make_plan(name, stack, models=models_for(stack, model_configs), today=today), None
    except FreeholdError as error:
        return None, error


def _parsed(name: str, made: Draft, root: Path) -> Stack:
    tree = made.tree
    below = tree.get("extends")
    if below is not None:
        tree = merge(load_tree(below, root)[0], tree)
    return parse_stack(tree, f"Pulumi.{name}.yaml")


def _finish(
    path: Path, made: Draft, plan: Plan | None, refusal: FreeholdError | None, *, keep: bool
) -> None:
    if plan is not None:
        from .plan_screen import show

        show(plan, alternatives=False)
    if refusal is not None and not keep:
        raise FreeholdError(f"{refusal}\nnothing is written; --draft writes the file all the same")
    write_new(path, made.text())
    click.echo(f"\nwrote {path.name}")
    if refusal is not None:
        click.echo(f"its plan is refused:\n{refusal}", err=True)
        return
    name = path.name.removeprefix("Pulumi.").removesuffix(".yaml")
    local = plan is not None and plan.cost is None
    click.echo(
        f"next: make up STACK={name}"
        if local
        else f"next: edit it, `freehold plan {name}` again, `freehold plan {name} --write` to pin it"
    )


def _from_helm(
    path: Path, converted: Converted, model_configs: tuple[str, ...], *, keep: bool
) -> None:
    """Plan with what the values pin; where that cannot be, without the pins, and say so."""
    from . import init_helm

    name = path.name.removeprefix("Pulumi.").removesuffix(".yaml")
    plan, refusal = _planned(name, converted.draft, path.parent, model_configs)
    if refusal is not None and converted.pins:
        free = converted.without_pins(str(refusal))
        plan, still = _planned(name, free.draft, path.parent, model_configs)
        if still is None:
            converted, refusal = free, None
    click.echo(init_helm.account(converted.notes))
    _finish(path, converted.draft, plan, refusal, keep=keep)
