"""The arguments that the pinned vLLM's server takes, as data: known without importing vLLM.

`vllm_flags.json` has an entry an argument. It is written from the installed vLLM by
`python -m freehold.engine.vllm_flags`; a test holds the two together.
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("vllm_flags.json")


def arguments() -> list[dict[str, Any]]:
    """Each with its `names`; how many `values` (`none`, `one`, `?`, `+`, `*`, or `switch` for a flag
    that has a `--no-` form); of what `kind`, where not text; the `choices`, where vLLM says them."""
    return json.loads(FILE.read_text(encoding="utf-8"))


@cache
def flags() -> dict[str, str]:
    """Flag -> how many values it takes: `0`, `1`, `?` (none or one) or `+` (one or more)."""
    arity = {"switch": "0", "none": "0", "one": "1", "?": "?", "+": "+", "*": "*"}
    return {
        name: arity[argument["values"]]
        for argument in arguments()
        for name in argument["names"]
        if name.startswith("-")
    }


def installed() -> list[dict[str, Any]]:
    """`arguments` of the vLLM that is installed here; imports it (15 s)."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    return [_argument(action) for action in parser._actions if action.dest != "help"]


def _argument(action: argparse.Action) -> dict[str, Any]:
    argument: dict[str, Any] = {"names": list(action.option_strings) or [action.dest]}
    if isinstance(action, argparse.BooleanOptionalAction):
        return {**argument, "values": "switch"}
    argument["values"] = {0: "none", None: "one"}.get(action.nargs, action.nargs)  # type: ignore[arg-type]
    if argument["values"] == "none":
        return argument
    kind = _kind(action.type)
    if kind != "text":
        argument["kind"] = kind
    if action.choices:
        argument["choices"] = list(action.choices)
    return argument


def _kind(convert: Any) -> str:
    """Of what kind an argument's values are, found by trying: vLLM's converters have no names."""
    if convert in (None, str):
        return "text"
    for kind, sample, expected in (
        ("json", "{}", dict),
        ("size", "4k", int),
        ("int", "7", int),
        ("float", "0.5", float),
        ("text", "anything", str),
    ):
        if isinstance(_tried(convert, sample), expected):
            return kind
    return "json"


def _tried(convert: Callable[[str], Any], sample: str) -> Any:
    try:
        return convert(sample)
    except Exception:  # any error means: not of this kind
        return None


def _write() -> None:
    lines = ",\n".join(json.dumps(argument) for argument in installed())
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
