"""What is true of a stack right now: from /proc and live health checks, whatever state.json says."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from freehold.local import procfs
from freehold.local.health import probe
from freehold.local.locking import holder
from freehold.local.process import HealthCheck, Phase, ProcessSpec
from freehold.local.statedir import StateDir, read_json

SUPERVISOR = "supervisor"


@dataclass(frozen=True)
class ProcessStatus:
    """One process as it is now. `since` and `created` are Unix times."""

    name: str
    role: str
    pool: str | None
    pid: int | None
    port: int | None
    url: str | None
    phase: Phase
    detail: str = ""
    since: float | None = None
    created: float | None = None
    ready_seconds: float | None = None
    restarts: int = 0
    exit_code: int | None = None
    memory_gib: float = 0.0
    """Resident, of the process and its children."""
    orphans: tuple[int, ...] = ()
    """Processes left over by a main process that is dead."""
    log: str = ""

    @property
    def healthy(self) -> bool:
        return self.phase == "healthy"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"health": self.phase}


def status(state_dir: Path | str) -> list[ProcessStatus]:
    """Every process of the stack, the supervisor first; empty when nothing runs and nothing should."""
    state = StateDir.at(state_dir)
    desired = read_json(state.desired)
    specs = {item["name"]: ProcessSpec.from_json(item) for item in desired.get("processes", [])}
    saved = read_json(state.state)
    same_boot = saved.get("boot") == procfs.boot_id()
    records = {r["name"]: r for r in saved.get("processes", [])} if same_boot else {}
    sessions = {r["pid"]: name for name, r in records.items() if r["pid"]}
    members = procfs.members(state, sessions)
    names = list(dict.fromkeys([*specs, *records, *members]))
    supervised = holder(state) is not None
    if not names and not supervised:
        return []
    with ThreadPoolExecutor(max_workers=16) as pool:
        rows = pool.map(
            lambda name: _row(
                name,
                specs.get(name),
                records.get(name) or {},
                set(members.get(name, [])),
                supervised,
                state,
            ),
            names,
        )
        return [_supervisor(state), *rows]


def _row(
    name: str,
    spec: ProcessSpec | None,
    record: dict[str, Any],
    members: set[int],
    supervised: bool,
    state: StateDir,
) -> ProcessStatus:
    pid: int | None = record.get("pid")
    alive = pid is not None and procfs.ticks(pid) == record.get("ticks")
    if alive and pid:
        members = members | {pid}
    phase, detail = _phase(alive, record, spec, supervised)
    if members and not alive:
        left = f"leftover processes: {', '.join(map(str, sorted(members)))}"
        detail = f"{detail}; {left}" if detail else left
    return ProcessStatus(
        name=name,
        role=spec.role if spec else record.get("role", ""),
        pool=spec.pool if spec else record.get("pool"),
        pid=pid if alive else None,
        port=spec.port if spec else record.get("port"),
        url=spec.url if spec else record.get("url"),
        phase=phase,
        detail=detail,
        since=record.get("since"),
        created=record.get("created") if alive else None,
        ready_seconds=record.get("ready_seconds"),
        restarts=record.get("restarts", 0),
        exit_code=record.get("exit_code"),
        memory_gib=round(procfs.memory(members) / 2**30, 3),
        orphans=() if alive else tuple(sorted(members)),
        log=str(state.log(name)),
    )


def _phase(
    alive: bool, record: dict[str, Any], spec: ProcessSpec | None, supervised: bool
) -> tuple[Phase, str]:
    said: Phase = record.get("phase", "waiting" if supervised else "stopped")
    detail = record.get("detail", "")
    if not alive:
        if not supervised:
            if said == "failed":
                return "failed", detail
            return "stopped", "not running, and no supervisor to start it: run `freehold up`"
        if said in ("starting", "healthy", "unhealthy"):
            return "stopped", "has just ended"
        return said, detail
    if said == "stopping":
        return said, detail
    problem = probe(spec.health if spec else HealthCheck())
    if problem is None:
        return "healthy", ""
    return ("starting" if record.get("ready_seconds") is None else "unhealthy"), problem


def _supervisor(state: StateDir) -> ProcessStatus:
    pid = holder(state)
    since = state.supervisor_lock.stat().st_mtime if pid else None
    return ProcessStatus(
        name=SUPERVISOR,
        role=SUPERVISOR,
        pool=None,
        pid=pid,
        port=None,
        url=None,
        phase="healthy" if pid else "stopped",
        detail="" if pid else "the processes go on, but nobody restarts them: run `freehold up`",
        since=since if since else time.time(),
        memory_gib=round(procfs.memory([pid]) / 2**30, 3) if pid else 0.0,
        log=str(state.supervisor_log),
    )
