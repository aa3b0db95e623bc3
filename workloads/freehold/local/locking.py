"""One supervisor a state folder: who holds it, and how to take it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import IO

from freehold.local import procfs
from freehold.local.statedir import StateDir


@contextlib.contextmanager
def lock(state: StateDir, patience: float = 0.0) -> Iterator[None]:
    """The one supervisor of a state folder. BlockingIOError when there is another after `patience`
    seconds. The file names the holder by pid and start time."""
    file = state.supervisor_lock.open("a+")
    try:
        _acquire(file, patience)
        file.truncate(0)
        file.write(f"{os.getpid()} {procfs.ticks(os.getpid())}")
        file.flush()
        yield
        file.truncate(0)
    finally:
        file.close()


def _acquire(file: IO[str], patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def holder(state: StateDir) -> int | None:
    """Pid of the living supervisor of this state folder, if any."""
    try:
        pid, ticks = map(int, state.supervisor_lock.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if procfs.ticks(pid) == ticks else None
