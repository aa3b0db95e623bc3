"""One process under supervision: its phase, and the steps from one phase to the next."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freehold.local import procfs
from freehold.local.logs import open_log
from freehold.local.process import (
    HealthCheck,
    Phase,
    ProcessSpec,
    base_environment,
    passed_environment,
)
from freehold.local.record import Record
from freehold.local.statedir import MARKER, StateDir, write_private

# Seconds. The first restart comes at once, because most deaths are accidents; a process that dies again
# and again must not eat the machine. These and the doubling are Kubernetes' idea, on a laptop's scale.
FIRST_BACKOFF, MOST_BACKOFF = 0.25, 30.0
FORGIVEN_AFTER = 60.0
"""Seconds of health after which the back-off starts anew."""
CHECK_WHILE_STARTING = 0.2
STRAY_GRACE = 1.0
"""Seconds that children of an ended process get to end by themselves: resource trackers, which remove
segments and semaphores, need a few hundred milliseconds."""
KILL_PATIENCE = 15.0
"""Seconds after SIGKILL until a process that still lives (stuck in the kernel) is given up and named."""

Members = Callable[[], dict[str, list[int]]]
ExitCode = Callable[[int], int | None]
Ask = Callable[[HealthCheck], "Future[str | None]"]


@dataclass
class Supervised:
    """A process's record and what only the running supervisor needs to know. Times are monotonic."""

    record: Record
    spec: ProcessSpec | None
    """None for one that is no longer desired and was adopted only to be stopped."""
    started: float = 0.0
    healthy_since: float | None = None
    unhealthy_since: float | None = None
    failures: int = 0
    attempts: int = 0
    """Deaths since it was last healthy for long: the exponent of the back-off."""
    retry_at: float = 0.0
    next_check: float = 0.0
    check: Future[str | None] | None = None
    stopping_until: float | None = None
    """Set once SIGTERM was sent: when SIGKILL follows."""
    stop_wanted: bool = False
    clearing_since: float | None = None
    """Set once the main process is dead, until nothing of it is left."""
    session: int | None = None
    """Its session, known for as long as something of it may live."""

    @classmethod
    def new(cls, spec: ProcessSpec, state: StateDir) -> Supervised:
        return cls(Record.of(spec, state), spec)

    def describe(self, spec: ProcessSpec, state: StateDir) -> None:
        """Take what may change without a restart from the spec."""
        self.spec = spec
        self.record.describe(spec, state)

    @property
    def running(self) -> bool:
        return self.record.pid is not None

    @property
    def gone(self) -> bool:
        """Nothing of it is left."""
        return not self.running and self.clearing_since is None

    def to_json(self) -> dict[str, Any]:
        return asdict(self.record)

    def enter(self, phase: Phase, detail: str = "") -> None:
        if phase != self.record.phase:
            self.record.since = time.time()
        self.record.phase, self.record.detail = phase, detail

    # Start

    def start(self, state: StateDir, now: float) -> None:
        spec = self.spec
        assert spec is not None
        record = self.record
        self.started, self.next_check, self.failures = now, now, 0
        self.healthy_since = self.unhealthy_since = self.stopping_until = None
        self.stop_wanted = False
        self.check = None
        record.digest, record.files_digest = spec.digest, spec.files_digest
        try:
            record.pid = self._spawn(spec, state)
        except OSError as error:
            self._ended(now, None, f"could not be started: {error}")
            return
        self.session = record.pid
        record.ticks = procfs.ticks(record.pid)
        record.created = time.time()
        self.enter("starting")

    def _spawn(self, spec: ProcessSpec, state: StateDir) -> int:
        private = state.private(spec.name)
        private.mkdir(mode=0o700, exist_ok=True)
        write_files(spec)
        environment = base_environment() | passed_environment(spec.passed_env)
        environment |= {"TMPDIR": str(private)} | dict(spec.env)
        environment[MARKER] = state.marker(spec.name)
        again = self.record.restarts > 0 and self.record.exit_code is not None
        with open_log(state.log(spec.name), fresh=not again) as log:
            process = subprocess.Popen(
                spec.argv,
                env=environment,
                cwd=spec.cwd or private,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # the supervisor reaps all its children itself
        return process.pid

    def reload(self, now: float) -> None:
        """Bring changed files to a running process that need not restart for them."""
        assert self.spec is not None
        write_files(self.spec)
        self.record.files_digest = self.spec.files_digest
        if self.spec.reload == "hup" and self.record.pid:
            procfs.kill([self.record.pid], signal.SIGHUP)
        self.next_check = now

    # Watch

    def observe(self, now: float, exit_code: ExitCode, ask: Ask) -> None:
        """Notice death, the result of a health check, a time that is up."""
        record = self.record
        if record.pid is None:
            return
        if procfs.ticks(record.pid) != record.ticks:
            self._died(now, exit_code(record.pid))
        elif self.stopping_until is not None:
            if now > self.stopping_until:
                procfs.kill([record.pid], signal.SIGKILL)
        elif self.spec is not None:
            self._judge(now)
            self._check(now, ask)

    def _died(self, now: float, code: int | None) -> None:
        if self.stop_wanted:
            self._ended(now, code, "")
        elif self.stopping_until is not None:
            self._ended(now, code, self.record.detail)  # killed by us, for the reason given there
        else:
            self._ended(now, code, f"{_how_it_ended(code)} after {now - self.started:.1f} s")

    def _check(self, now: float, ask: Ask) -> None:
        assert self.spec is not None
        if self.check is None and now >= self.next_check:
            self.check = ask(self.spec.health)
        if self.check is None or not self.check.done():
            return
        problem = self.check.result()
        self.check = None
        steady = self.record.phase == "healthy"
        self.next_check = now + (self.spec.health.interval if steady else CHECK_WHILE_STARTING)
        if problem is None:
            self._is_healthy(now)
        else:
            self._is_not_healthy(now, problem)

    def _is_healthy(self, now: float) -> None:
        assert self.spec is not None
        self.failures, self.unhealthy_since = 0, None
        self.next_check = now + self.spec.health.interval
        if self.record.phase == "healthy":
            return
        if self.record.phase == "starting":
            self.record.ready_seconds = round(now - self.started, 2)
        self.healthy_since = now
        self.enter("healthy")

    def _is_not_healthy(self, now: float, problem: str) -> None:
        assert self.spec is not None
        self.failures += 1
        if self.record.phase == "starting":
            self.record.detail = problem
        elif self.failures >= self.spec.health.failures or self.record.phase == "unhealthy":
            self.unhealthy_since = self.unhealthy_since or now
            self.enter("unhealthy", problem)
        else:
            self.next_check = now + CHECK_WHILE_STARTING

    def _judge(self, now: float) -> None:
        """Kill what does not become healthy, or stays unhealthy for too long."""
        assert self.spec is not None
        phase, detail = self.record.phase, self.record.detail
        if phase == "starting" and now - self.started > self.spec.startup_seconds:
            self._kill(now, f"was not healthy after {self.spec.startup_seconds:.0f} s ({detail})")
        elif phase == "unhealthy" and self.unhealthy_since is not None:
            spent = now - self.unhealthy_since
            if spent > self.spec.health.restart_after:
                self._kill(now, f"was unhealthy for {spent:.0f} s ({detail})")
        elif phase == "healthy" and now - (self.healthy_since or now) > FORGIVEN_AFTER:
            self.attempts = 0

    def _kill(self, now: float, why: str) -> None:
        assert self.record.pid is not None
        self.record.detail = why
        self.stopping_until = now
        procfs.kill([self.record.pid], signal.SIGKILL)

    # Stop

    def stop(self, now: float) -> None:
        """Ask it to end; `observe` kills it when it does not. Safe to call again."""
        if self.stop_wanted:
            return
        self.stop_wanted = True
        if self.record.pid is None:
            if self.gone:
                self.enter("stopped")
            return
        self.enter("stopping")
        if self.stopping_until is None:
            self.stopping_until = now + self.record.stop_seconds
            # SIGCONT lets a frozen process hear SIGTERM.
            procfs.kill([self.record.pid], signal.SIGTERM)
            procfs.kill([self.record.pid], signal.SIGCONT)

    def _ended(self, now: float, code: int | None, why: str) -> None:
        """The main process is dead: what next is decided here, and happens once `clear` is done."""
        record = self.record
        record.pid = record.ticks = record.created = None
        record.exit_code = code
        self.check = None
        self.clearing_since = now
        if self.stop_wanted:
            self.enter("stopping")
        elif record.ready_seconds is None:
            # It never worked with these settings: starting it again would only repeat the failure.
            self.enter("failed", why)
        else:
            delay = min(FIRST_BACKOFF * 2**self.attempts, MOST_BACKOFF)
            self.attempts += 1
            self.retry_at = now + delay
            record.restarts += 1
            self.enter("backoff", f"{why}; starts again in {delay:g} s")

    def clear(self, now: float, state: StateDir, members: Members) -> None:
        """After death: end stray children, then remove shared memory and temporary files."""
        if self.clearing_since is None:
            return
        strays = members().get(self.record.name, [])
        if strays:
            spent = now - self.clearing_since
            if spent > STRAY_GRACE + KILL_PATIENCE:
                self.record.detail = f"cannot be killed: process {', '.join(map(str, strays))}"
            elif spent > STRAY_GRACE:
                procfs.kill(strays, signal.SIGKILL)
            return
        self.remove_shared_memory()
        shutil.rmtree(state.private(self.record.name), ignore_errors=True)
        self.clearing_since = self.session = None
        if self.stop_wanted:
            self.enter("stopped")

    def remove_shared_memory(self) -> None:
        names = set(self.record.shm) | procfs.matching(self.record.shared_memory)
        if names:
            self.record.shm = sorted(set(self.record.shm) - procfs.remove_unmapped(names))


def write_files(spec: ProcessSpec) -> None:
    """Each file is replaced at once, so that a process that watches it never reads a half."""
    for name, content in spec.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        write_private(temporary, content)
        temporary.replace(path)


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    hint = "; often out of memory" if code == -signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
