"""A stack of small real processes, taken down after each test whatever happened."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ports import free_ports

from freehold.local import procfs, runtime
from freehold.local.process import HealthCheck, ProcessSpec
from freehold.local.statedir import StateDir, read_json
from freehold.local.status import ProcessStatus

SERVER = Path(__file__).with_name("small_server.py")
T = TypeVar("T")


def until(what: Callable[[], T], seconds: float = 15.0) -> T:
    """The first true value of `what`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what.__code__.co_name}, last value {value!r}")
        time.sleep(0.02)
    return value


@dataclass
class Stack:
    """One state folder and shorthands for what tests do with it."""

    path: Path
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> StateDir:
        return StateDir.at(self.path)

    def port(self, name: str) -> int:
        """A free port, the same for a name each time."""
        if name not in self.ports:
            self.ports[name] = free_ports(1)[0]
        return self.ports[name]

    def spec(self, name: str, *options: str, **changes: Any) -> ProcessSpec:
        port = self.port(name)
        values: dict[str, Any] = {
            "name": name,
            "role": "engine",
            "argv": (sys.executable, "-S", str(SERVER), str(port), *options),
            "port": port,
            "url": f"http://127.0.0.1:{port}",
            "health": HealthCheck(url=f"http://127.0.0.1:{port}/", interval=0.2, timeout=1),
            "stop_seconds": 3.0,
        }
        return ProcessSpec(**(values | changes))

    def rows(self) -> dict[str, ProcessStatus]:
        return {row.name: row for row in runtime.status(self.path)}

    def row(self, name: str) -> ProcessStatus:
        return self.rows()[name]

    def pid(self, name: str) -> int:
        pid = self.row(name).pid
        assert pid is not None
        return pid

    def record(self, name: str) -> dict[str, Any]:
        saved = read_json(self.state.state)
        return next((r for r in saved.get("processes", []) if r["name"] == name), {})

    def kill(self, name: str) -> int:
        """-9 to its main process; returns when it is dead."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        until(lambda: procfs.ticks(pid) is None)
        return pid

    def members(self) -> list[int]:
        """Every living process with any mark of this stack."""
        return [pid for pids in procfs.members(self.state, {}).values() for pid in pids]

    def leaves_nothing(self) -> bool:
        return not self.members() and not self.state.run.exists() and not self.rows()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "stack")
    yield stack
    runtime.down(stack.path)
    assert stack.leaves_nothing()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until
