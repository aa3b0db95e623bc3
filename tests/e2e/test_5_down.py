"""Down leaves nothing, whatever happened before."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from freehold.local.statedir import StateDir

from .conftest import LiveStack, alive, until

pytestmark = pytest.mark.e2e


def everything_of(stack: LiveStack) -> set[int]:
    """Every process that carries the stack's marker, grandchildren included."""
    found = set()
    for process in psutil.process_iter():
        try:
            if str(stack.root) in process.environ().get("FREEHOLD_STATE", ""):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


def test_status_tells_the_truth_when_the_supervisor_was_killed(stack: LiveStack) -> None:
    before = stack.status()
    os.kill(before["supervisor"]["pid"], signal.SIGKILL)
    until("the supervisor is gone", lambda: not alive(before["supervisor"]["pid"]))
    after = stack.status()
    assert after["supervisor"]["health"] != "healthy"
    assert (
        after["chat-0"]["health"] == "healthy" and after["chat-0"]["pid"] == before["chat-0"]["pid"]
    )
    os.kill(after["embed-0"]["pid"], signal.SIGKILL)
    until("status says so", lambda: stack.status()["embed-0"]["health"] != "healthy", 10)


def test_the_next_up_takes_over_what_runs(stack: LiveStack) -> None:
    before = stack.status()
    stack.up()
    after = stack.status()
    assert {process["health"] for process in after.values()} == {"healthy"}
    assert after["chat-0"]["pid"] == before["chat-0"]["pid"]
    assert after["embed-0"]["pid"] != before["embed-0"]["pid"]


def test_down_leaves_no_process_no_segment_and_no_socket(stack: LiveStack) -> None:
    pids = {process["pid"] for process in stack.status().values() if process["pid"]}
    family = pids | {c.pid for pid in pids for c in psutil.Process(pid).children(recursive=True)}
    done = stack.freehold("down", stack.name)
    assert done.returncode == 0, done.stderr
    assert [pid for pid in family if alive(pid)] == []
    assert segments() == []
    assert not [p for p in (stack.root / ".freehold" / stack.name).rglob("*") if p.is_socket()]
    assert not StateDir.at(stack.root / ".freehold" / stack.name).run.exists()
    assert {p["pid"] for p in stack.status().values()} <= {None}


def segments() -> list[str]:
    """Shared memory of ours: LMCache's pool, and what Python's and vLLM's queues make."""
    return [
        p.name for p in Path("/dev/shm").iterdir() if p.name.startswith(("lmcache", "freehold"))
    ]


def test_down_again_is_no_error(stack: LiveStack) -> None:
    done = stack.freehold("down", stack.name)
    assert done.returncode == 0 and "was not running" in done.stdout
