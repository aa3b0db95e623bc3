"""What Linux says about processes: who lives, who belongs to whom, who maps which shared memory."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from freehold.local.statedir import MARKER, StateDir

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Stat:
    """From /proc/<pid>/stat. `ticks` is the start time in clock ticks since boot: with the pid it names
    a process uniquely until the next boot, also when the wall clock is set."""

    pid: int
    alive: bool
    session: int
    ticks: int


def stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    # proc(5): state, ppid, pgrp, session, ... starttime is field 22. Z and X are dead.
    return Stat(pid, fields[0] not in (b"Z", b"X"), int(fields[3]), int(fields[19]))


def ticks(pid: int) -> int | None:
    """Start time of a living process, or None when there is none."""
    found = stat(pid)
    return found.ticks if found and found.alive else None


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def members(state: StateDir, sessions: dict[int, str]) -> dict[str, list[int]]:
    """All living processes of the stack, by the name of the process they belong to.

    A process belongs by any of three marks, because none is enough: the environment variable (wiped in
    /proc by programs that set their title: Redis, vLLM's EngineCore), the session (`sessions`: leader's
    pid -> name; lost when a child makes its own) and the working folder (lost on chdir).
    """
    marker = f"{MARKER}={state.key}/".encode()
    run = f"{state.run}/"
    found: dict[str, list[int]] = {}
    for pid in pids():
        if pid == os.getpid():
            continue
        name = _member_of(pid, marker, run, sessions)
        # A zombie has ended; its parent has only not asked yet.
        if name and ticks(pid) is not None:
            found.setdefault(name, []).append(pid)
    return found


def _member_of(pid: int, marker: bytes, run: str, sessions: dict[int, str]) -> str | None:
    with contextlib.suppress(OSError):
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        start = environ.find(marker)
        if start == 0 or (start > 0 and environ[start - 1] == 0):
            value = environ[start + len(marker) :].split(b"\0", 1)[0]
            return value.decode(errors="replace")
    if sessions and (found := stat(pid)) and found.session in sessions:
        return sessions[found.session]
    with contextlib.suppress(OSError):
        cwd = os.readlink(f"/proc/{pid}/cwd")
        if cwd.startswith(run) and _is_mine(pid):
            return cwd[len(run) :].split("/", 1)[0].removesuffix(" (deleted)")
    return None


def _is_mine(pid: int) -> bool:
    """False for a shell that merely stands in the folder: those hold a terminal, ours never do."""
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return text[text.rindex(b")") + 2 :].split()[4] == b"0"


def shared_memory(pid: int) -> set[str]:
    """Names in /dev/shm that the process maps or holds open.

    A semaphore is known by its inode: glibc maps it under another name, which is gone by the time that it
    has its own, and so says the maps of the process that made it."""
    prefix = f"{SHM}/"
    found: set[str] = set()
    unnamed: set[int] = set()
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/maps").open(errors="replace") as maps:
        for line in maps:
            if prefix in line:
                found.add(line[line.index(prefix) + len(prefix) :].rstrip("\n"))
                if line.endswith(" (deleted)\n"):
                    unnamed.add(int(line.split()[4]))
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                if target.startswith(prefix):
                    found.add(target[len(prefix) :])
    if unnamed:
        found |= {entry.name for entry in os.scandir(SHM) if entry.inode() in unnamed}
    return {name for name in found if not name.endswith(" (deleted)")}


def remove_unmapped(names: Collection[str]) -> set[str]:
    """Remove these segments unless a living process still uses them; returns those that are gone."""
    present = {name for name in names if (SHM / name).exists()}
    if present:
        for pid in pids():
            present -= shared_memory(pid)
    for name in present:
        with contextlib.suppress(OSError):
            (SHM / name).unlink(missing_ok=True)
    return {name for name in names if not (SHM / name).exists()}


def matching(patterns: Iterable[str]) -> set[str]:
    return {str(path.relative_to(SHM)) for pattern in patterns for path in SHM.glob(pattern)}


def listing() -> frozenset[str]:
    try:
        return frozenset(os.listdir(SHM))
    except OSError:
        return frozenset()


def kill(targets: Iterable[int], sig: signal.Signals) -> None:
    for pid in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, sig)


def memory(targets: Iterable[int]) -> int:
    """Resident bytes of these processes; pages that they share count once for each."""
    return sum(_resident(targets)) * os.sysconf("SC_PAGE_SIZE")


def _resident(targets: Iterable[int]) -> Iterator[int]:
    for pid in targets:
        with contextlib.suppress(OSError):
            yield int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
