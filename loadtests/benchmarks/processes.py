"""Programs that a benchmark starts, and ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

_START_SECONDS = 60.0


@contextmanager
def running(
    argv: Sequence[str], log: Path, *, within: Path | None = None
) -> Iterator[psutil.Process]:
    """Killed at the end; what it says goes to the end of the log."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, cwd=within)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def until(probe: Callable[[], bool], log: Path) -> None:
    """Ends the benchmark with the log's last words where the probe does not come true in a minute."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            if probe():
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:]
    sys.exit(f"the router was not ready after {_START_SECONDS:.0f} s: {said}")
