"""Log files of processes: kept small, and their last lines for error messages."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 32 * 2**20
"""A log beyond this is moved to `<name>.log.1`; a day of a busy laptop's access log fits."""
TAIL_LINES = 15  # a Python traceback's useful end fits


def open_log(path: Path, *, fresh: bool) -> BinaryIO:
    """Open for appending, as the processes' output does, so that it can be cut while in use.

    A fresh start moves the previous log to `<name>.log.1`; a restart after a crash goes on in the same.
    """
    if fresh and path.exists():
        path.replace(_previous(path))
    log = os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb"
    )
    if not fresh:
        log.write(f"--- started again at {time.strftime('%Y-%m-%d %H:%M:%S')} ---\n".encode())
        log.flush()
    return log


def limit(path: Path) -> None:
    """Copy a log that has grown too long to `<name>.log.1` and empty it; its writer goes on."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > MOST_BYTES:
            shutil.copyfile(path, _previous(path))
            os.truncate(path, 0)


def causes(path: Path, most: int = 3) -> list[str]:
    """The first different errors that were written, which the last lines often only follow from."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = (match.group().strip()[:500] for match in _ERROR.finditer(text))
    return list(dict.fromkeys(found))[:most]


# A Python exception's own line, whatever a logger put before it.
_ERROR = re.compile(r"\b\w*(?:Error|Exception): .+")


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines, each at most 500 characters; empty when there is no log."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - 64 * 1024))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:500].rstrip() for line in text.splitlines()[-lines:])


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
