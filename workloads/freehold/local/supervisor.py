"""The supervisor of one stack: a daemon that makes the processes match `desired.json`, again and again.

`python -m freehold.local.supervisor <state folder>`. It is level-triggered: each turn compares what is
desired with what runs and takes one step, so that it does not matter how the difference came about.
Killed with -9 it leaves the processes serving, and the next one takes them over. SIGTERM stops the stack.
Only the standard library is imported here: about 20 MiB resident.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from freehold.local import adoption, logs, procfs
from freehold.local.health import probe
from freehold.local.locking import holder, lock
from freehold.local.process import HealthCheck, ProcessSpec
from freehold.local.statedir import StateDir, read_json, write_json
from freehold.local.supervised import Supervised

# Seconds between turns: at rest, while something starts, while something stops.
REST, STARTING, STOPPING = 0.5, 0.1, 0.05
SLOW_TURN = 30.0
"""Seconds between looks at the size of logs."""
SHM_SCAN_EVERY = 2.0
"""Seconds, at least, between scans for who maps a new segment: one reads all of /proc."""


class Supervisor:
    """Owns the processes of one state folder. Use `run` under `lock`."""

    def __init__(
        self,
        state: StateDir,
        *,
        reaps: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`reaps`: whether all children of this Python process are the stack's. `sleep` may return
        early when there is something to see."""
        self.state = state
        self.reaps = reaps
        self.boot = procfs.boot_id()
        self.generation = ""
        self.desired: dict[str, ProcessSpec] = {}
        self.finish = False
        """Stop everything, clean up and end."""
        self.processes: dict[str, Supervised] = {}
        self.exits: dict[int, int] = {}
        self.sleep = sleep
        self.pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="health")
        self._desired_seen: tuple[int, int] | None = None
        self._written: dict[str, Any] = {}
        self._shm_seen: frozenset[str] = frozenset()
        self._shm_scan_at = 0.0
        self._slow_at = 0.0

    def run(self) -> None:
        """Until the stack is stopped. Everything of it is gone when this returns."""
        self.adopt()
        while True:
            done = self.turn()
            if done:
                break
            self.sleep(self._pause())
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.clean_up()

    def turn(self) -> bool:
        """One comparison of desired and real; True when all is stopped for good."""
        now = time.monotonic()
        if holder(self.state) not in (os.getpid(), None):
            raise RuntimeError("the state folder was replaced, and has another supervisor")
        self._reap()
        self._read_desired()
        for process in self.processes.values():
            process.observe(now, self._exit_code, self._ask)
            process.clear(now, self.state, self.members)
        self.exits.clear()  # what is left were adopted orphans
        self._stop_undesired(now)
        self._start_ready(now)
        self._record_shared_memory(now)
        self._slow(now)
        self._write()
        return self.finish and all(process.gone for process in self.processes.values())

    # What runs already

    def adopt(self) -> None:
        """Take over what an earlier supervisor left running; end what nobody can account for."""
        self.processes = adoption.take_over(self.state, self.boot)
        self._read_desired()
        self._end_unknown()

    def _end_unknown(self) -> None:
        running = {name for name, process in self.processes.items() if process.running}
        adoption.end_all_but(running, self.members, self._reap)

    def members(self) -> dict[str, list[int]]:
        """A full scan of /proc: only when something starts to stop, has died, or maps new memory."""
        sessions = {p.session: name for name, p in self.processes.items() if p.session}
        return procfs.members(self.state, sessions)

    # What is desired

    def _read_desired(self) -> None:
        if self.finish:
            return
        try:
            found = self.state.desired.stat()
        except OSError:
            # The state folder was deleted under a running stack: nobody would ever stop it otherwise.
            if not self.state.path.exists():
                self.finish, self.desired = True, {}
            return
        seen = (found.st_mtime_ns, found.st_ino)
        if seen == self._desired_seen:
            return
        data = read_json(self.state.desired)
        self._desired_seen = seen
        if not data:
            return
        specs = [ProcessSpec.from_json(item) for item in data["processes"]]
        again = data["generation"] != self.generation
        self.generation = data["generation"]
        self.finish = bool(data.get("finish"))
        self.desired = {spec.name: spec for spec in specs}
        for name, process in self.processes.items():
            if again and name in self.desired and process.record.phase == "failed":
                process.record.phase = "waiting"  # a new `up` is a new chance
        self._describe()

    def _describe(self) -> None:
        now = time.monotonic()
        for name, spec in self.desired.items():
            process = self.processes.get(name)
            if process is None:
                self.processes[name] = Supervised.new(spec, self.state)
            elif process.record.digest == spec.digest and not process.stop_wanted:
                process.describe(spec, self.state)
                if process.running and process.record.files_digest != spec.files_digest:
                    process.reload(now)

    # Make it so

    def _stop_undesired(self, now: float) -> None:
        """Those that others still need are stopped after those others."""
        leaving = {n: p for n, p in self.processes.items() if self._must_leave(n, p)}
        needed = {name for p in leaving.values() if not p.gone for name in p.record.after}
        for name, process in leaving.items():
            if name not in needed and not process.stop_wanted:
                self._note_shared_memory([process])
                process.stop(now)
        for name, process in leaving.items():
            if process.gone and process.stop_wanted:
                self._replace(name, process)

    def _must_leave(self, name: str, process: Supervised) -> bool:
        spec = self.desired.get(name)
        return spec is None or spec.digest != process.record.digest or process.stop_wanted

    def _replace(self, name: str, old: Supervised) -> None:
        left = (
            old.record.shm
        )  # segments that others still map: removed at the latest with the last of them
        old.remove_shared_memory()
        if name in self.desired:
            self.processes[name] = Supervised.new(self.desired[name], self.state)
            self.processes[name].record.shm = left
        elif not self.finish:
            del self.processes[name]

    def _start_ready(self, now: float) -> None:
        if self.finish:
            return
        for process in self.processes.values():
            record = process.record
            if process.spec is None or not process.gone or process.stop_wanted:
                continue
            if record.phase == "waiting" or (record.phase == "backoff" and now >= process.retry_at):
                missing = [name for name in process.spec.after if not self._is_healthy(name)]
                if missing:
                    process.enter(record.phase, f"for {', '.join(missing)}")
                else:
                    process.start(self.state, now)

    def _is_healthy(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.record.phase == "healthy"

    # Shared memory

    def _record_shared_memory(self, now: float) -> None:
        """When /dev/shm shows new names, learn which of our processes map them."""
        listing = procfs.listing()
        self._shm_seen &= listing
        if listing - self._shm_seen and now >= self._shm_scan_at:
            self._shm_scan_at = now + SHM_SCAN_EVERY
            self._shm_seen = listing
            self._note_shared_memory(list(self.processes.values()))

    def _note_shared_memory(self, processes: list[Supervised]) -> None:
        members = self.members()
        for process in processes:
            names = set(process.record.shm)
            for pid in members.get(process.record.name, []):
                names |= procfs.shared_memory(pid)
            process.record.shm = sorted(name for name in names if (procfs.SHM / name).exists())

    # Housekeeping

    def _ask(self, check: HealthCheck) -> Future[str | None]:
        return self.pool.submit(probe, check)

    def _exit_code(self, pid: int) -> int | None:
        """Of a dead process; None when it was not our child."""
        self._reap()
        return self.exits.pop(pid, None)

    def _reap(self) -> None:
        if not self.reaps:
            return
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self.exits[pid] = os.waitstatus_to_exitcode(status)

    def _slow(self, now: float) -> None:
        if now >= self._slow_at:
            self._slow_at = now + SLOW_TURN
            for process in self.processes.values():
                logs.limit(Path(process.record.log))

    def _write(self) -> None:
        data = {
            "boot": self.boot,
            "generation": self.generation,
            "supervisor": {"pid": os.getpid(), "ticks": procfs.ticks(os.getpid())},
            "processes": [process.to_json() for process in self.processes.values()],
        }
        if data == self._written:
            return
        try:
            write_json(self.state.state, data)
        except OSError as error:  # a full disk passes; the processes go on, and so do we
            print(f"cannot write {self.state.state}: {error}", file=sys.stderr, flush=True)
        else:
            self._written = data

    def _pause(self) -> float:
        processes = self.processes.values()
        if any(p.stopping_until is not None or p.clearing_since is not None for p in processes):
            return STOPPING
        if any(p.record.phase in ("waiting", "starting", "backoff") for p in processes):
            return STARTING
        return REST

    def clean_up(self) -> None:
        """After a full stop: nothing outside the state folder remains, and there only logs."""
        self._end_unknown()
        for process in self.processes.values():
            process.remove_shared_memory()
        self.state.remove_run()
        self.state.state.unlink(missing_ok=True)
        if read_json(self.state.desired).get("generation") in (None, self.generation):
            self.state.desired.unlink(
                missing_ok=True
            )  # else an `up` is already waiting for us to go


def _light_sleep() -> Callable[[float], None]:
    """Sleep that any signal ends, also one that came just before."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def sleep(seconds: float) -> None:
        if select.select([reader], [], [], seconds)[0]:
            os.read(reader, 4096)

    return sleep


def _become_subreaper() -> None:
    """Orphans of our processes become our children, so that none stays a zombie where process 1 of a
    container does not reap."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, linux/prctl.h


def main() -> None:
    state = StateDir.at(sys.argv[1])
    supervisor = Supervisor(state, sleep=_light_sleep())

    def finish(*_: object) -> None:
        supervisor.finish, supervisor.desired = True, {}

    signal.signal(signal.SIGTERM, finish)
    signal.signal(signal.SIGINT, finish)
    for number in (signal.SIGHUP, signal.SIGCHLD):  # a new wish, a death: enough that they wake us
        signal.signal(number, lambda *_: None)
    _become_subreaper()
    try:
        with lock(state, patience=2.0):
            if state.desired.exists():  # else a `down` came between
                supervisor.run()
    except BlockingIOError:
        print("another supervisor is at work", file=sys.stderr)
    except Exception:
        # The processes go on serving; the next `up` takes them over and shows this log if need be.
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)  # without waiting for health checks that are still under way


if __name__ == "__main__":
    main()
