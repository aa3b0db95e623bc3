"""What a new supervisor finds: processes that it can take over, and leftovers that it must end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

from freehold.local import procfs
from freehold.local.record import Record
from freehold.local.statedir import StateDir, read_json
from freehold.local.supervised import Members, Supervised

END_SECONDS = 5.0
"""SIGKILL takes effect within milliseconds; what lives longer is stuck in the kernel."""


def take_over(state: StateDir, boot: str) -> dict[str, Supervised]:
    """The processes that state.json records, each as running or as dead, whichever is true now.

    A pid is trusted only with the same start time and within the same boot (`boot`).
    """
    saved = read_json(state.state)
    if saved.get("boot") != boot:
        return {}
    return {data["name"]: _take_over(data) for data in saved.get("processes", [])}


def _take_over(data: dict[str, Any]) -> Supervised:
    record = Record.from_json(data)
    process = Supervised(record, None, session=record.pid)
    now = time.monotonic()
    process.started = now - max(0.0, time.time() - (record.created or record.since))
    if record.pid is not None and procfs.ticks(record.pid) == record.ticks:
        if record.phase == "healthy":
            process.healthy_since = now
        elif record.phase == "stopping":  # begun by the earlier supervisor; decided anew
            record.phase = "unhealthy"
        return process
    died_unseen = record.pid is not None and record.phase != "stopping"
    record.restarts += died_unseen
    record.pid = record.ticks = record.created = None
    process.clearing_since = now
    process.enter("backoff" if record.ready_seconds is not None else "waiting")
    return process


def end_all_but(running: set[str], members: Members, reap: Callable[[], None]) -> None:
    """End what belongs to the stack but to none of these processes, for example because state.json
    is lost: it cannot be taken over, because nobody knows how it was started."""
    deadline = time.monotonic() + END_SECONDS
    segments: set[str] = set()
    while time.monotonic() < deadline:
        strays = [pid for name, pids in members().items() if name not in running for pid in pids]
        if not strays:
            break
        for pid in strays:
            segments |= procfs.shared_memory(pid)
        procfs.kill(strays, signal.SIGKILL)
        time.sleep(0.02)
        reap()
    procfs.remove_unmapped(segments)
