"""Find or fetch the few programs that no Python package carries: Redis, Prometheus, libnuma.

First what the machine has; else, on Debian and Ubuntu, packages unpacked under the tools folder
(no root, no system service); elsewhere one message with the one line to run.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from freehold.config.errors import FreeholdError
from freehold.local import debian

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Tool:
    """A program (or library, when `programs` is empty) and the Debian packages that hold it."""

    packages: tuple[str, ...]
    programs: tuple[str, ...] = ()
    """Names it may go by; Valkey is Redis where a distribution has replaced it."""


_TOOLS = {
    # redis-server itself is a link to a program in redis-tools.
    "redis-server": _Tool(("redis-server", "redis-tools"), ("redis-server", "valkey-server")),
    "prometheus": _Tool(("prometheus",), ("prometheus",)),
    "promtool": _Tool(("prometheus",), ("promtool",)),
    "libnuma.so.1": _Tool(("libnuma1",)),
}

# What to run where packages cannot be unpacked, by the package manager found.
_BY_HAND = {
    "apt-get": "sudo apt-get install redis-server prometheus libnuma1",
    "dnf": "sudo dnf install valkey golang-github-prometheus numactl-libs",
    "pacman": "sudo pacman -S valkey prometheus numactl",
    "zypper": "sudo zypper install redis golang-github-prometheus-prometheus libnuma1",
    "apk": "sudo apk add redis prometheus numactl",
    "brew": "brew install redis prometheus",
}
_USUAL_PLACES = ("/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin")


def find_tools(names: Iterable[str], tools_dir: Path, report: Report) -> dict[str, Path]:
    """The path of each tool, each verified by running it (a library: by loading it).

    Names: redis-server, prometheus, promtool, libnuma.so.1. `report` gets a line before anything slow.
    Fetched programs are wrappers that need no environment; for a fetched library see `library_environment`.
    """
    names = list(names)
    found = {name: path for name in names if (path := _on_system(name))}
    missing = [name for name in names if name not in found]
    if not missing:
        return found
    tools_dir = tools_dir.absolute()
    try:
        tools_dir.mkdir(parents=True, exist_ok=True)
        with (tools_dir / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two stacks may start at once
            for name in missing:
                found[name] = _cached(name, tools_dir) or _fetch(name, tools_dir, report)
    except OSError as error:
        raise FreeholdError(
            f"Cannot write tools to {tools_dir}: {(error.strerror or str(error)).lower()}. "
            "Make it writable for this user, with 300 MB of free space."
        ) from None
    return found


def library_environment(found: Mapping[str, Path]) -> dict[str, str]:
    """The environment in which programs find the libraries in `found` that the system does not."""
    folders = {str(path.parent) for name, path in found.items() if not _TOOLS[name].programs}
    folders -= {str(path.parent) for name in found if (path := _on_system(name))}
    return {"LD_LIBRARY_PATH": ":".join(sorted(folders))} if folders else {}


def _on_system(name: str) -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_USUAL_PLACES])
    for program in _TOOLS[name].programs:
        if (found := shutil.which(program, path=path)) and _works(Path(found)):
            return Path(found)
    return None if _TOOLS[name].programs else _loaded_library(name)


def _loaded_library(name: str) -> Path | None:
    """Where the dynamic linker finds a library."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if path.startswith("/") and Path(path).name.startswith(name):
            return Path(path).with_name(name)
    return None


def _cached(name: str, tools_dir: Path) -> Path | None:
    if not _TOOLS[name].programs:
        return next((path for path in (tools_dir / "root").rglob(name)), None)
    path = tools_dir / "bin" / name
    return path if path.exists() and _works(path) else None


def _fetch(name: str, tools_dir: Path, report: Report) -> Path:
    tool = _TOOLS[name]
    if not debian.available():
        raise FreeholdError(f"{name} is missing on this machine. Run: {_line_to_run()}")
    unpacker = debian.Unpacker(tools_dir)
    program = unpacker.root / "usr/bin" / name
    if tool.programs and program.exists():  # came in the package of another tool
        _wrap(program, tools_dir / "bin" / name, unpacker.library_path())
        if result := _cached(name, tools_dir):
            return result
    report(f"fetching {name} (packages {', '.join(tool.packages)}) into {tools_dir}")
    unpacker.unpack(tool.packages)
    if tool.programs:
        unpacker.complete(program, tool.packages)
        _wrap(program, tools_dir / "bin" / name, unpacker.library_path())
    result = _cached(name, tools_dir)
    if result is None:
        raise FreeholdError(f"{name} was fetched but does not run here. Run: {_line_to_run()}")
    return result


def _wrap(program: Path, wrapper: Path, library_path: str) -> None:
    """A script that starts the program with its libraries; `exec` keeps the process id."""
    wrapper.parent.mkdir(exist_ok=True)
    libraries = f'LD_LIBRARY_PATH="{library_path}" ' if library_path else ""
    wrapper.write_text(f'#!/bin/sh\n{libraries}exec "{program}" "$@"\n')
    wrapper.chmod(0o755)


def _works(program: Path) -> bool:
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _line_to_run() -> str:
    for manager, line in _BY_HAND.items():
        if shutil.which(manager):
            return line
    return "install redis-server, prometheus and libnuma with your package manager"
