"""The project's own program under the recorder, with what a rendering needs in place of secrets."""

from __future__ import annotations

import runpy
from pathlib import Path

from .recorder import record
from .resource import Recording

_STAND_INS = {"freehold:hubToken": "<hub-token>", "freehold:rendering": "true"}


def record_program(root: Path, stack: str, *, known: bool = True) -> Recording:
    """What `pulumi up -s STACK` of the checkout in `root` would register."""
    program = str(root / "platform" / "__main__.py")
    return record(
        lambda: _run(program),
        stack=stack,
        known=known,
        config=_STAND_INS,
        secret_keys=("freehold:hubToken",),
    )


def _run(program: str) -> None:
    runpy.run_path(program, run_name="freehold.program")["main"]()
