"""What state.json says of a process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from freehold.local.process import Phase, ProcessSpec
from freehold.local.statedir import StateDir


@dataclass
class Record:
    """Enough for the next supervisor to take the process over, and for progress; never a secret."""

    name: str
    role: str
    pool: str | None
    port: int | None
    url: str | None
    log: str
    digest: str
    files_digest: str
    stop_seconds: float
    after: list[str]
    shared_memory: list[str]
    phase: Phase = "waiting"
    since: float = 0.0
    """Unix time of the last change of phase."""
    detail: str = ""
    pid: int | None = None
    ticks: int | None = None
    created: float | None = None
    """Unix time of the process's start."""
    ready_seconds: float | None = None
    """From start to first healthy."""
    restarts: int = 0
    exit_code: int | None = None
    """Of the last end; negative for a signal; None when another process's child was watched."""
    shm: list[str] = field(default_factory=list)
    """Segments in /dev/shm that it was seen to use."""

    @classmethod
    def of(cls, spec: ProcessSpec, state: StateDir) -> Record:
        """Of a process that has not been started yet."""
        return cls(
            name=spec.name,
            role=spec.role,
            pool=spec.pool,
            port=spec.port,
            url=spec.url,
            log=str(state.log(spec.name)),
            digest=spec.digest,
            files_digest=spec.files_digest,
            stop_seconds=spec.stop_seconds,
            after=list(spec.after),
            shared_memory=list(spec.shared_memory),
            since=time.time(),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})

    def describe(self, spec: ProcessSpec, state: StateDir) -> None:
        """Take what may change without a restart from the spec."""
        fresh = Record.of(spec, state)
        for name in ("role", "pool", "port", "url", "stop_seconds", "after", "shared_memory"):
            setattr(self, name, getattr(fresh, name))
