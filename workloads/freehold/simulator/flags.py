"""vLLM's command line, taken without vLLM: the same flags, the same refusals, exit code 2."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from freehold.engine.vllm_flags import arguments

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Every option of vLLM's API server by its name in Python; None where the caller said nothing.

    Ends the process with code 2 and argparse's message when vLLM's own parser would.
    """
    return _parser().parse_args([_dashed(argument) for argument in arguments])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freehold.simulator",
        description="The simulated engine: takes the command line of vLLM's API server.",
        usage="%(prog)s MODEL [options of vLLM's API server]",  # all 320 of them are no help
        formatter_class=_Compact,
    )
    for flag in arguments():
        _add(parser, flag)
    return parser


class _Compact(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=60, width=110)


def _add(parser: argparse.ArgumentParser, flag: dict[str, Any]) -> None:
    names, values = flag["names"], flag["values"]
    if values == "switch":
        positive = [name for name in names if not name.startswith("--no-")]
        parser.add_argument(*positive, action=argparse.BooleanOptionalAction, default=None)
    elif values == "none":
        parser.add_argument(*names, action="store_true", default=None)
    else:
        parser.add_argument(
            *names,
            nargs=None if values == "one" else values,
            type=_KINDS[flag.get("kind", "text")],
            choices=flag.get("choices"),
            default=None,
            metavar=None if names[0].startswith("-") else names[0].upper(),
        )


def _dashed(argument: str) -> str:
    """vLLM takes `--max_model_len` for `--max-model-len`."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _size(text: str) -> int:
    """`-1`, `auto`, `32768`, `32k` (thousands) or `32K` (times 1024)."""
    if text.strip().lower() in ("-1", "auto"):
        return -1
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(text)
    number, suffix = match.groups()
    base = 1024 if suffix.isupper() else 1000
    return int(float(number) * base ** ("kmgt".index(suffix.lower()) + 1 if suffix else 0))


_size.__name__ = "human_readable_int"  # argparse names the converter in its message, as vLLM's does


def _json(text: str) -> Any:
    return json.loads(text)


_json.__name__ = "json"

_KINDS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "int": int,
    "float": float,
    "size": _size,
    "json": _json,
}
