"""What the pinned vLLM's server says of itself, as a file: `python tests/gateway/fuzz/openapi.py` writes it.

Of the paths that the gateway serves the schemas, with what they refer to; of all others the path alone.
No engine starts: vLLM builds its web application, on which a stand-in takes the place of the model."""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from freehold.gateway.endpoints import ALL, MODELS

Json = dict[str, Any]
FILE = Path(__file__).with_name("vllm_openapi.json")
_TASKS = ("generate", "embed", "classify", "transcription", "render")


def load() -> Json:
    return json.loads(FILE.read_text())


def installed() -> Json:
    """The same from the vLLM that is installed (40 s on two cores, most of it imports)."""
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # the paths that must not be reached above all
    import vllm
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments: Any = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    model: Any = SimpleNamespace(get_pooling_task=lambda _: "embed", hf_config=SimpleNamespace())
    return _cut(build_app(arguments, _TASKS, model).openapi(), vllm.__version__)


def _cut(whole: Json, version: str) -> Json:
    served = {path: {"post": _request_of(whole["paths"][path]["post"])} for path in ALL}
    schemas = whole["components"]["schemas"]
    return {
        "openapi": whole["openapi"],
        "info": {"title": "vLLM", "version": version},
        "paths": served,
        "components": {"schemas": {name: _terse(schemas[name]) for name in _used(served, schemas)}},
        "x-other-paths": sorted(set(whole["paths"]) - {MODELS, *ALL}),
    }


def _request_of(operation: Json) -> Json:
    """Without the answers, which are the engine's."""
    return {
        "requestBody": operation["requestBody"],
        "responses": {"default": {"description": "as the engine has it"}},
    }


def _terse(part: Any) -> Any:
    """Without prose: half of it."""
    if isinstance(part, list):
        return [_terse(each) for each in part]
    if not isinstance(part, dict):
        return part
    prose = {name for name in ("title", "description") if isinstance(part.get(name), str)}
    return {name: _terse(value) for name, value in part.items() if name not in prose}


def _used(start: Json, schemas: Json) -> list[str]:
    """Names of all schemas that it refers to, and these to."""
    found: set[str] = set()
    waiting = [*_names(start)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _names(schemas[name])
    return sorted(found)


def _names(part: Json) -> Iterator[str]:
    for match in re.finditer(r'"#/components/schemas/([^"]+)"', json.dumps(part)):
        yield match[1]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else FILE
    target.write_text(json.dumps(installed(), indent=1, sort_keys=True) + "\n")
