"""The folder that holds a stack's state: its layout, atomic files, locks, and the private run folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKER = "FREEHOLD_PROCESS"
"""Environment variable of every process of a stack: `<stack key>/<process name>`."""


@dataclass(frozen=True)
class StateDir:
    """`<state>/desired.json` is what should run, `state.json` what the supervisor made of it."""

    path: Path

    @classmethod
    def at(cls, path: Path | str) -> StateDir:
        return cls(Path(path).absolute())

    @property
    def desired(self) -> Path:
        return self.path / "desired.json"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisor.log"

    @property
    def supervisor_lock(self) -> Path:
        return self.path / "supervisor.lock"

    @property
    def key(self) -> str:
        """Short and stable name of this stack on this machine."""
        return hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:10]

    @property
    def run(self) -> Path:
        """Private folder for sockets and temporary files. Short, because the path of a unix socket must
        stay under 108 bytes and engines append a UUID to it."""
        root = tempfile.gettempdir()
        if len(root) > 40:  # 108 less our own name, a process's name, a slash and a UUID
            root = "/tmp"
        return Path(root) / f"freehold-{self.key}"

    def private(self, name: str) -> Path:
        """The folder of one process under `run`: its TMPDIR and, by default, its working folder."""
        return self.run / name

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def marker(self, name: str = "") -> str:
        return f"{self.key}/{name}"

    def make(self) -> None:
        """Create the folder and its parts, for this user only."""
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)

    def make_run(self) -> None:
        """Create the run folder; PermissionError when somebody else put one in its place."""
        self.run.mkdir(mode=0o700, exist_ok=True)
        found = self.run.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to somebody else", str(self.run))
        self.run.chmod(0o700)

    def remove_run(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Only one `up` at a time works on a stack; BlockingIOError when another does."""
        with (self.path / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def write_json(path: Path, data: Any) -> None:
    """Replace the whole file at once, mode 0600: a reader sees the old or the new, never a half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_private(temporary, json.dumps(data, indent=1))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when the file is missing or not JSON."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, also when it was there with another mode."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
