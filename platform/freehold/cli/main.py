"""The `freehold` command. Each command is a module of this package, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from freehold.config import FreeholdError

# Command -> its one line in the help. The module of the same name holds a click command `command`.
COMMANDS = {
    "init": "Write a stack file: five questions, or production-stack chart values.",
    "plan": "Say what a stack will be, hold, do and cost, before anything is bought.",
    "preflight": "Check that the AWS account can carry a stack: quotas, reservations, zones.",
    "render": "Write everything that a stack would create as files; no cloud, no network.",
    "up": "Bring a stack up on this machine.",
    "down": "Stop a stack and leave nothing behind.",
    "status": "Say what runs, and how it is.",
    "smoke": "Try every endpoint of a running stack through its gateway.",
    "predict": "Predict TTFT and TPOT for every row of a CSV.",
    "gateway": "Run only the gateway, in front of engines that already run.",
    "rehearse": "Run a stack here with simulated engines, under its own load, beside its plan.",
    "load": "Send a stack its load, measure it, and compare with the plan.",
}


class _Commands(click.Group):
    """Imports a command's module only when it is needed: `freehold --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"freehold.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="freehold")
def cli() -> None:
    """Self-hosted LLM inference: from a stack file to a running, measured platform."""


def run() -> None:
    """The console script: every error is one message, never a traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except FreeholdError as error:
        click.echo(f"freehold: {error}", err=True)
        code = error.exit_code
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("freehold: interrupted", err=True)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except Exception as error:
        if os.environ.get("FREEHOLD_DEBUG"):
            traceback.print_exc()
        click.echo(
            f"freehold: an error of Freehold itself ({type(error).__name__}: {error}); "
            "FREEHOLD_DEBUG=1 shows where: please report it",
            err=True,
        )
        code = 70  # EX_SOFTWARE of sysexits.h
    sys.exit(code if isinstance(code, int) else 0)
