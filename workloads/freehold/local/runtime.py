"""The client's side of the laptop runtime: bring a stack up, take it down, say how it is.

Nothing here starts a process of the stack. `apply` writes what is desired and follows what the
supervisor makes of it; `down` does the same with nothing desired.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from freehold.config.errors import FreeholdError
from freehold.local import logs, preflight, procfs
from freehold.local.locking import holder, lock
from freehold.local.process import ProcessSpec, base_environment, passed_environment
from freehold.local.statedir import StateDir, read_json, write_json
from freehold.local.status import ProcessStatus, status
from freehold.local.supervisor import Supervisor

__all__ = ["ProcessStatus", "Result", "apply", "down", "status"]

Show = Callable[[Sequence[ProcessStatus]], None]

POLL = 0.05
"""Seconds between looks at state.json."""
SILENCE = 10.0
"""Seconds after which a supervisor that takes no notice of a new wish is replaced; it looks twice
a second."""
CRASHES = 4
"""Deaths of one process while `apply` watches, after which it will hardly recover."""


@dataclass(frozen=True)
class Result:
    """What an `apply` changed; all processes are healthy."""

    started: tuple[str, ...]
    stopped: tuple[str, ...]
    """Those that are no longer part of the stack."""
    unchanged: tuple[str, ...]
    seconds: float


class Superseded(FreeholdError):
    """Somebody else changed or stopped the stack meanwhile: it is theirs now."""


def apply(
    specs: Sequence[ProcessSpec], state_dir: Path | str, progress: Show | None = None
) -> Result:
    """Make exactly these processes run and wait until all are healthy.

    Raises FreeholdError before anything is started (a port in use, too little memory, a folder that
    cannot be written), or after undoing everything when a process does not come up; KeyboardInterrupt
    likewise. Undoing means that the stack is again what it was: stopped, or the earlier processes.
    """
    began = time.monotonic()
    state = StateDir.at(state_dir)
    preflight.prepare_folders(state)
    with _alone(state):
        preflight.check(specs, state)
        wished = read_json(state.desired)
        earlier = [] if wished.get("finish") else wished.get("processes", [])
        before = _digests(state)
        with _interruptible():
            try:
                _Follower(state, specs, progress).follow()
            except Superseded:
                raise
            except (FreeholdError, OSError) as error:  # OSError: the disk filled up meanwhile
                _undo(state, earlier)
                again = "is as it was before" if earlier else "was stopped again"
                raise FreeholdError(f"{error}\nThe stack {again}.") from None
            except KeyboardInterrupt:
                _undo(state, earlier)
                raise
    after = {spec.name: spec.digest for spec in specs}
    return Result(
        started=tuple(name for name, digest in after.items() if before.get(name) != digest),
        stopped=tuple(name for name in before if name not in after),
        unchanged=tuple(name for name, digest in after.items() if before.get(name) == digest),
        seconds=time.monotonic() - began,
    )


def down(state_dir: Path | str, progress: Show | None = None) -> list[str]:
    """Stop everything and leave nothing behind but logs; the names of what ran, if anything did.

    Works without a supervisor, with one that hangs, and when state.json is lost.
    """
    state = StateDir.at(state_dir)
    if not state.path.exists():
        return []
    running = [row.name for row in status(state.path) if row.pid or row.orphans]
    patience = 10.0 + _longest_stop(state)
    supervisor = holder(state)
    try:
        if supervisor is not None:
            _wish(state, [], finish=True)
    except OSError:  # a full disk must not keep a stack from stopping
        if supervisor is not None:
            procfs.kill([supervisor], signal.SIGTERM)
    with _uninterrupted():
        _wait_for_end(state, patience, progress)
        with lock(state, patience=5.0):
            sweeper = Supervisor(state, reaps=False)
            sweeper.finish = True
            sweeper.run()
            state.desired.unlink(missing_ok=True)
    return running


def _wait_for_end(state: StateDir, patience: float, progress: Show | None) -> None:
    """Until the supervisor has stopped everything and ended; kill it when it does not."""
    deadline = time.monotonic() + patience
    while (pid := holder(state)) is not None:
        if progress:
            progress(_rows(read_json(state.state)))
        if time.monotonic() > deadline:
            procfs.kill([pid], signal.SIGKILL)
        time.sleep(POLL)


def _longest_stop(state: StateDir) -> float:
    """Seconds that an orderly stop may take: the chain of processes one after another."""
    records: list[dict[str, Any]] = read_json(state.state).get("processes", [])
    return sum(record["stop_seconds"] for record in records)


def _undo(state: StateDir, earlier: list[dict[str, Any]]) -> None:
    """Put the earlier wish back and wait until what it does not name is gone."""
    if not earlier:
        down(state.path)
        return
    with _uninterrupted():
        generation = _wish(state, earlier)
        kept = {spec.name: spec.digest for spec in map(ProcessSpec.from_json, earlier)}
        deadline = time.monotonic() + 10.0 + _longest_stop(state)
        while time.monotonic() < deadline:
            saved = read_json(state.state)
            wrong = [r for r in saved["processes"] if kept.get(r["name"]) != r["digest"]]
            if saved["generation"] == generation and not wrong:
                return
            time.sleep(POLL)


def _wish(state: StateDir, processes: list[dict[str, Any]], *, finish: bool = False) -> str:
    generation = uuid.uuid4().hex
    wish = {"generation": generation, "finish": finish, "processes": processes}
    write_json(state.desired, wish)
    if pid := holder(state):
        procfs.kill([pid], signal.SIGHUP)  # look now
    return generation


class _Follower:
    """Follows the supervisor until a wish has come true."""

    def __init__(
        self, state: StateDir, specs: Sequence[ProcessSpec], progress: Show | None
    ) -> None:
        self.state = state
        self.specs = {spec.name: spec for spec in specs}
        self.progress = progress
        self.supervisors = 0
        """Started so far: one that dies again and again is an error."""
        self.restarts: dict[str, int] | None = None

    def follow(self) -> None:
        generation = _wish(self.state, [spec.to_json() for spec in self.specs.values()])
        heard = time.monotonic()
        while True:
            self._ensure_supervisor()
            if read_json(self.state.desired).get("generation") != generation:
                raise Superseded("The stack was changed or stopped by another command meanwhile.")
            saved = read_json(self.state.state)
            if saved.get("generation") == generation:
                heard = time.monotonic()
                if self.progress:
                    self.progress(_rows(saved))
                if self._done(saved["processes"]):
                    return
            elif time.monotonic() - heard > SILENCE:
                self._replace_supervisor()
                heard = time.monotonic()
            time.sleep(POLL)

    def _done(self, records: list[dict[str, Any]]) -> bool:
        if self.restarts is None:
            self.restarts = {record["name"]: record["restarts"] for record in records}
        for record in records:
            crashes = record["restarts"] - self.restarts.get(record["name"], 0)
            if record["phase"] == "failed" or crashes >= CRASHES:
                raise FreeholdError(self._failure(record))
        healthy = {record["name"] for record in records if record["phase"] == "healthy"}
        return healthy == set(self.specs) and len(records) == len(healthy)

    def _failure(self, record: dict[str, Any]) -> str:
        path = Path(record["log"])
        message = f"{record['name']} did not come up: it {record['detail']}."
        spec = self.specs.get(record["name"])
        text = logs.tail(path)
        if not text:
            return f"{message} It wrote nothing to {path}."
        for cause in logs.causes(path):
            if cause not in text:
                message += f"\n  {cause}"
        whole = f"{message}\nLast lines of {path}:\n" + "\n".join(
            f"  {line}" for line in text.splitlines()
        )
        return spec.redact(whole) if spec else whole

    def _ensure_supervisor(self) -> None:
        if holder(self.state) is not None:
            return
        self.supervisors += 1
        if self.supervisors > 3:
            raise FreeholdError(
                f"The supervisor does not stay up. Last lines of {self.state.supervisor_log}:\n"
                f"{logs.tail(self.state.supervisor_log)}"
            )
        passed = {name for spec in self.specs.values() for name in spec.passed_env}
        _start_supervisor(self.state, passed_environment(passed))

    def _replace_supervisor(self) -> None:
        """One that hangs (stopped by a debugger, say) is killed; the next takes the processes over."""
        if pid := holder(self.state):
            procfs.kill([pid], signal.SIGKILL)


def _start_supervisor(state: StateDir, passed: Mapping[str, str]) -> None:
    """Detached from this terminal and session; returns when it is at work or has ended.

    `passed` is for the processes that take it (`ProcessSpec.passed_env`).
    """
    with logs.open_log(state.supervisor_log, fresh=True) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "freehold.local.supervisor", str(state.path)],
            env=base_environment() | _import_path() | dict(passed),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + SILENCE
    while process.poll() is None and holder(state) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.returncode = 0  # it is on its own now: no warning when this object goes


def _import_path() -> dict[str, str]:
    """The supervisor must find this package the way we did; its processes do not inherit it."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": path} if path else {}


def _digests(state: StateDir) -> dict[str, str]:
    """Of what runs or should run before an `apply`."""
    saved = read_json(state.state)
    if saved.get("boot") != procfs.boot_id():
        return {}
    records: list[dict[str, Any]] = saved.get("processes", [])
    return {
        r["name"]: r["digest"] for r in records if r["pid"] and procfs.ticks(r["pid"]) == r["ticks"]
    }


def _rows(saved: dict[str, Any]) -> list[ProcessStatus]:
    """The supervisor's own words, for progress: no scan, no checks."""
    names = ProcessStatus.__dataclass_fields__
    return [
        ProcessStatus(**{key: value for key, value in record.items() if key in names})
        for record in saved.get("processes", [])
    ]


@contextlib.contextmanager
def _alone(state: StateDir) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(state.exclusive())
        except BlockingIOError:
            raise FreeholdError(
                f"Another `freehold up` is at work on {state.path}; wait for it, or stop it with Ctrl-C."
            ) from None
        yield


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM (a CI job's end, `timeout`) is handled as Ctrl-C is."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handler(signal.SIGTERM, interrupt):
        yield


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C does not break off the cleaning up."""
    with _handler(signal.SIGINT, signal.SIG_IGN), _handler(signal.SIGTERM, signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handler(number: signal.Signals, handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)
