"""What one process of the stack is: plain values, and the digest that tells two of them apart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal[
    "waiting", "starting", "healthy", "unhealthy", "stopping", "backoff", "stopped", "failed"
]

Reload = Literal["restart", "files", "hup"]
"""What a change of `files` alone does: restart the process, only rewrite them (the process watches
them itself, as Envoy does), or rewrite them and send SIGHUP (as Prometheus wants)."""

# What a process may inherit from the shell that ran `freehold up`: how to find programs and certificates,
# how to reach the network, how to write text. Nothing else, so that a stack does not depend on the shell.
INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


@dataclass(frozen=True)
class HealthCheck:
    """How to ask a process whether it can work. At most one of `url`, `tcp`, `unix`; with none of them
    a process is healthy as long as it runs."""

    url: str | None = None
    """HTTP GET; 200 is healthy."""
    tcp: tuple[str, int] | None = None
    """Host and port that accept a connection."""
    unix: str | None = None
    """Path of a unix socket that accepts a connection."""
    interval: float = 5.0
    """Seconds between checks of a healthy process (while it starts: a fifth of a second)."""
    timeout: float = 5.0
    """Seconds; vLLM's /health can take over 2 s while other engines load on the same two cores."""
    failures: int = 3
    """Failed checks in a row that make a healthy process unhealthy."""
    restart_after: float = 120.0
    """Seconds a process may stay unhealthy before it is killed and started again (a frozen engine)."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process: how to start it, when, and how to tell that it works."""

    name: str
    """Unique in the stack, such as `chat-0`; also the name of its log and of its private folder."""
    role: str
    argv: tuple[str, ...]
    pool: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to `base_environment`; TMPDIR is set to the process's private folder unless named here."""
    passed_env: tuple[str, ...] = ()
    """Names that it also takes from the environment of the command, where they are set. Their values
    are written nowhere."""
    secret_env: tuple[str, ...] = ()
    """Names in `env` whose values never appear in a message."""
    cwd: str | None = None
    """Working folder; its private folder under the stack's run folder when None."""
    port: int | None = None
    extra_ports: tuple[int, ...] = ()
    """Further ports it listens on, checked to be free before anything starts."""
    url: str | None = None
    health: HealthCheck = field(default_factory=HealthCheck)
    after: tuple[str, ...] = ()
    """Names of the processes that must be healthy before this one starts."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> content, written with mode 0600 before the start."""
    startup_seconds: float = 60.0
    """How long it may take to become healthy."""
    stop_seconds: float = 10.0
    """How long it may take to end after SIGTERM before it is killed."""
    reload: Reload = "restart"
    memory_gib: float = 0.0
    """Memory it needs, checked before anything starts."""
    shm_gib: float = 0.0
    """Of which in /dev/shm, which is often small in a container; also checked."""
    shared_memory: tuple[str, ...] = ()
    """Glob patterns in /dev/shm that belong to it, such as `lmcache_l1_pool_x*`, removed at the stop.
    Segments that it is seen to map are removed as well, without being named here."""

    @property
    def digest(self) -> str:
        """Of everything that would make it a different process: another digest means a restart."""
        parts: dict[str, Any] = {"argv": self.argv, "env": dict(self.env), "cwd": self.cwd}
        if self.reload == "restart":
            parts["files"] = dict(self.files)
        return _digest(parts)

    @property
    def files_digest(self) -> str:
        return _digest(dict(self.files))

    @property
    def ports(self) -> tuple[int, ...]:
        return ((self.port,) if self.port else ()) + self.extra_ports

    def redact(self, text: str) -> str:
        """`text` without the values of `secret_env` and `passed_env`."""
        secrets = [self.env.get(name) for name in self.secret_env]
        for value in [*secrets, *passed_environment(self.passed_env).values()]:
            if value:
                text = text.replace(value, "***")
        return text

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProcessSpec:
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in data.items()
        }
        health = dict(values.pop("health"))
        if health["tcp"]:
            host, port = health["tcp"]
            health["tcp"] = (host, port)
        return cls(**values, health=HealthCheck(**health))


def base_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The part of `environ` (this process's own by default) that processes inherit."""
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in INHERITED if name in environ}


def passed_environment(names: Iterable[str]) -> dict[str, str]:
    """Those of the variables that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
