"""What would make a start fail, found before anything is started: each one clear message."""

from __future__ import annotations

import graphlib
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from freehold.config.errors import FreeholdError
from freehold.local import procfs
from freehold.local.process import ProcessSpec
from freehold.local.statedir import StateDir, read_json

LEAST_FREE_DISK = 256 * 2**20
"""Bytes for logs, configuration and the first metrics; less means the disk is as good as full."""


def prepare_folders(state: StateDir) -> None:
    """Make the state and run folders and prove that they can be written."""
    try:
        state.make()
        probe = state.path / ".writable"
        probe.write_bytes(b"\0" * 65536)
        probe.unlink()
        state.make_run()
        free = shutil.disk_usage(state.path).free
    except OSError as error:
        where = error.filename or state.path
        raise FreeholdError(
            f"Cannot write to {where}: {(error.strerror or str(error)).lower()}. Freehold keeps "
            f"logs and state in {state.path} and sockets in {state.run}; make both writable for "
            "this user, with free space."
        ) from None
    if free < LEAST_FREE_DISK:
        raise FreeholdError(
            f"The disk is full: {free / 2**20:.0f} MiB are free at {state.path}, "
            f"{LEAST_FREE_DISK / 2**20:.0f} MiB are needed. Free some space and run it again."
        )


def check(specs: Sequence[ProcessSpec], state: StateDir) -> None:
    """Raise FreeholdError when the processes that would be started cannot run here."""
    _check_order(specs)
    running = _running(state)
    to_start = [spec for spec in specs if running.get(spec.name, ("", 0))[0] != spec.digest]
    _check_programs(to_start)
    _check_ports(specs, to_start, state, running)
    _check_memory(specs, to_start, state, running)


def _running(state: StateDir) -> dict[str, tuple[str, int]]:
    """Digest and pid of each process that runs now."""
    saved = read_json(state.state)
    if saved.get("boot") != procfs.boot_id():
        return {}
    records: list[dict[str, Any]] = saved.get("processes", [])
    return {
        r["name"]: (r["digest"], r["pid"])
        for r in records
        if r["pid"] and procfs.ticks(r["pid"]) == r["ticks"]
    }


def _check_order(specs: Sequence[ProcessSpec]) -> None:
    names = {spec.name for spec in specs}
    if len(names) != len(specs):
        raise FreeholdError("Two processes have one name; names must be unique in a stack.")
    for spec in specs:
        for other in spec.after:
            if other not in names:
                raise FreeholdError(f"{spec.name} is to start after {other}, which does not exist.")
    try:
        graphlib.TopologicalSorter({spec.name: spec.after for spec in specs}).prepare()
    except graphlib.CycleError as error:
        raise FreeholdError(
            f"These processes wait for each other: {' -> '.join(error.args[1])}."
        ) from None


def _check_programs(specs: Sequence[ProcessSpec]) -> None:
    for spec in specs:
        if not shutil.which(spec.argv[0], path=spec.env.get("PATH", os.environ.get("PATH"))):
            raise FreeholdError(
                f"{spec.name}: the program {spec.argv[0]} does not exist or is not executable."
            )


def _check_ports(
    specs: Sequence[ProcessSpec],
    to_start: Sequence[ProcessSpec],
    state: StateDir,
    running: dict[str, tuple[str, int]],
) -> None:
    taken: dict[int, str] = {}
    for spec in specs:
        for port in spec.ports:
            if port in taken:
                raise FreeholdError(
                    f"Port {port} is given to both {taken[port]} and {spec.name}; change one of them."
                )
            taken[port] = spec.name
    busy = [(spec, port) for spec in to_start for port in spec.ports if not _is_free(port)]
    if not busy:
        return
    sessions = {pid: name for name, (_, pid) in running.items()}
    ours = {pid for pids in procfs.members(state, sessions).values() for pid in pids}
    for spec, port in busy:
        holder = _listener(port)
        if holder not in ours or holder is None:
            raise FreeholdError(
                f"Port {port}, which {spec.name} needs, is in use by {_describe(holder)}. "
                "Stop that program, or set another port in the stack file."
            )


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # closed connections may linger
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listener(port: int) -> int | None:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if (
            connection.laddr
            and connection.status == psutil.CONN_LISTEN
            and connection.laddr[1] == port
        ):
            return connection.pid
    return None


def _describe(pid: int | None) -> str:
    if pid is None:
        return "another program"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"


def _check_memory(
    specs: Sequence[ProcessSpec],
    to_start: Sequence[ProcessSpec],
    state: StateDir,
    running: dict[str, tuple[str, int]],
) -> None:
    """What is about to be replaced or removed gives its memory back before its successor starts."""
    needed = sum(spec.memory_gib for spec in to_start)
    in_shm = sum(spec.shm_gib for spec in to_start)
    staying = {spec.name for spec in specs} - {spec.name for spec in to_start}
    members = procfs.members(state, {pid: name for name, (_, pid) in running.items()})
    leaving = [pid for name, pids in members.items() if name not in staying for pid in pids]
    available = (_available_memory() + procfs.memory(leaving)) / 2**30
    if needed > available:
        biggest = sorted(to_start, key=lambda spec: -spec.memory_gib)[:3]
        parts = ", ".join(f"{spec.name} {spec.memory_gib:.1f}" for spec in biggest)
        raise FreeholdError(
            f"Too little memory: {needed:.1f} GiB are needed ({parts} GiB ...), {available:.1f} GiB are "
            "available. Close other programs, or use fewer replicas or a smaller model."
        )
    free_shm = shutil.disk_usage(procfs.SHM).free / 2**30 if procfs.SHM.exists() else 0.0
    if in_shm > free_shm:
        raise FreeholdError(
            f"Too little shared memory: {in_shm:.1f} GiB are needed, /dev/shm has {free_shm:.1f} GiB free. "
            "In a container start it with a larger one (docker run --shm-size)."
        )


def _available_memory() -> int:
    """Bytes that can be had without swapping: of the machine, or of this container if that is less."""
    available = psutil.virtual_memory().available
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return available
    return available if limit == "max" else min(available, int(limit) - used)
