"""What is kept of each request, unrounded, and the files it is kept in: one a process, merged later.

A file is JSON lines. Each line says in `kind` what it is: `process` (the first), `request`,
`stage` (one begins) or `health` (a second of the generator's own life).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

PATTERN = "records-*.jsonl"


@dataclass(slots=True)
class RequestRecord:
    """One request. Times are in seconds; `started` and `intended` on the clock of its process."""

    name: str
    """What it was: `chat`, `embed`, `rerank`, ..."""
    started: float
    """Just before the request is encoded and sent, as vLLM's tool has it."""
    intended: float | None = None
    """When the arrival process wanted it sent; None in a closed loop."""
    ttft: float | None = None
    latency: float | None = None
    """Until the last output event (the usage chunk and [DONE] are no output)."""
    itls: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    asked_input: int | None = None
    asked_output: int | None = None
    reusable: int = 0
    """Prompt tokens that an earlier request of this run began with as well."""
    status: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    error_kind: str | None = None
    """`refused`, `timeout`, `disconnected`, `broken stream`, `http 503`, ...; None: it worked."""
    stage: str | None = None
    session: str | None = None
    turn: int = 0
    warmup: bool = False
    """Left out of every figure."""
    cancelled: bool = False
    """The client hung up on purpose; counted, but in no latency."""
    worker: str | None = None
    truth: dict[str, Any] | None = None
    """From the deterministic server: when it received the request and sent each event. Not kept."""

    @property
    def ok(self) -> bool:
        return self.error_kind is None and not self.cancelled

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; None for answers of one token."""
        if self.ttft is None or self.latency is None or not self.output_tokens:
            return None
        if self.output_tokens < 2:
            return None
        return (self.latency - self.ttft) / (self.output_tokens - 1)

    @property
    def dispatch_delay(self) -> float | None:
        return None if self.intended is None else self.started - self.intended

    @property
    def ended(self) -> float:
        return self.started + (self.latency or 0.0)


_FIELDS = [each.name for each in fields(RequestRecord) if each.name != "truth"]


@dataclass(frozen=True)
class StageStart:
    name: str
    began: float
    measured: bool
    concurrency: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Health:
    """The generator over about one second."""

    at: float
    cpu: float
    """Share of one core."""
    lag: float
    """How late its event loop woke, in seconds: the largest of the second."""
    lag_median: float


class Recorder:
    """Appends lines to this process's file.

    A full disk does not end the run: writing stops, `failed` says why, and what is written stays.
    """

    def __init__(self, folder: Path) -> None:
        self.failed: str | None = None
        self.count = 0
        self.path = folder / f"records-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._lines: list[bytes] = []
        # Lines are flushed by hand, whole: only the last one of a killed process can be torn.
        self._file = self.path.open("ab", buffering=0)
        clock = {"clock_offset": time.time() - time.perf_counter(), "boot": _boot_id()}
        self._put({"kind": "process", "pid": os.getpid(), **clock})

    def add(self, record: RequestRecord) -> None:
        self.count += 1
        self._put({"kind": "request", **{name: getattr(record, name) for name in _FIELDS}})

    def stage(self, start: StageStart) -> None:
        self._put({"kind": "stage", **asdict(start)})

    def health(self, sample: Health) -> None:
        self._put({"kind": "health", **asdict(sample)})
        self.flush()

    def note(self, **facts: Any) -> None:
        """A fact about the whole process: its self-check, why it stopped."""
        self._put({"kind": "note", **facts})
        self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if self.failed or not lines or self._file.closed:
            return
        data = b"".join(lines)
        try:
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            self.failed = f"{self.path}: {error.strerror}"

    def close(self) -> None:
        self.flush()
        self._file.close()

    def _put(self, line: dict[str, Any]) -> None:
        self._lines.append(orjson.dumps(line) + b"\n")
        if len(self._lines) >= 64:
            self.flush()


@dataclass
class Recording:
    """The merged files of a run, all times on one clock (seconds since the epoch)."""

    requests: list[RequestRecord] = field(default_factory=list)
    stages: list[StageStart] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    torn: int = 0
    """Lines that could not be read: a process was killed or the disk was full."""
    processes: int = 0


def read_recording(folder: Path) -> Recording:
    """Merge every process's file in `folder`, requests in the order they started."""
    merged = Recording()
    offsets: dict[str, float] = {}
    for path in sorted(folder.glob(PATTERN)):
        offset = 0.0
        for line in _lines(path, merged):
            kind = line.pop("kind", None)
            if kind == "process":
                # Processes of one machine share its monotonic clock: one offset keeps them exact.
                offset = offsets.setdefault(line["boot"], line["clock_offset"])
                merged.processes += 1
            elif kind == "request":
                merged.requests.append(_request(line, offset))
            elif kind == "stage":
                merged.stages.append(StageStart(**{**line, "began": line["began"] + offset}))
            elif kind == "health":
                merged.health.append(Health(**{**line, "at": line["at"] + offset}))
            elif kind == "note":
                merged.notes.append(line)
    merged.requests.sort(key=lambda record: record.started)
    merged.stages.sort(key=lambda stage: stage.began)
    return merged


def _lines(path: Path, merged: Recording) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for raw in file:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                merged.torn += 1
                continue
            yield line


def _request(line: dict[str, Any], offset: float) -> RequestRecord:
    line["started"] += offset
    if line["intended"] is not None:
        line["intended"] += offset
    return RequestRecord(**line)


def _boot_id() -> str:
    """The same for all processes of a machine until it restarts; containers of a node differ by name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = "unknown"
    return f"{socket.gethostname()}/{boot}"
