"""The arguments that the pinned vLLM's server takes, as data: known without importing vLLM.

`vllm_flags.txt` has a line a flag, `--name arity`, with argparse's arity (0, 1, ? or +). It is written
from the installed vLLM by `python -m freehold.engine.vllm_flags`; a test holds the two together.
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("vllm_flags.txt")


@cache
def flags() -> dict[str, str]:
    """Flag -> how many values it takes: `0`, `1`, `?` (none or one) or `+` (one or more)."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


def installed() -> dict[str, str]:
    """The same of the vLLM that is installed here; imports it (15 s)."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    return {
        flag: "1" if action.nargs is None else str(action.nargs)
        for action in parser._actions
        for flag in action.option_strings
    }


def _write() -> None:
    from vllm import __version__

    lines = [f"{flag} {arity}" for flag, arity in sorted(installed().items())]
    head = (
        f"# vLLM {__version__}'s server arguments; written by python -m freehold.engine.vllm_flags"
    )
    FILE.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
