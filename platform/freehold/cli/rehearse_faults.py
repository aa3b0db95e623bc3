"""`freehold rehearse --fault`: when what goes wrong, and what clients saw of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.table import Table

from freehold.config import FreeholdError
from freehold.config.errors import nearest
from freehold.load.analysis import main_requests
from freehold.load.metrics import measure
from freehold.load.record import RequestRecord, read_recording
from freehold.load.stages import Stage
from freehold.load.test import LoadTest
from freehold.local.alerts import Firing
from freehold.local.faults import BURST, FAULTS, Site

LASTS = 20.0
"""Seconds of a fault that does not pass by itself."""
AFTER = 20.0
"""Seconds of load after it, to see the stack well again."""
_FIRST = 15.0
_BURST_TIMES = 4


@dataclass(frozen=True)
class Planned:
    """One `--fault NAME@SECOND`; the second is of the measured time."""

    name: str
    second: float

    @classmethod
    def read(cls, given: str) -> Planned:
        name, found, second = given.partition("@")
        if name not in FAULTS:
            known = ", ".join(FAULTS)
            raise FreeholdError(
                f'--fault {given}: there is no fault "{name}"{nearest(name, FAULTS)}; there are: {known}'
            )
        try:
            at = float(second) if found else _FIRST
        except ValueError:
            at = -1.0
        if not 0 <= at <= 120:
            raise FreeholdError(f"--fault {given}: after @ stands a second between 0 and 120")
        return cls(name, at)


def with_bursts(test: LoadTest, planned: Sequence[Planned]) -> LoadTest:
    """The test with so many more users while a burst lasts."""
    stages = [stage for stage in test.stages if not stage.measured]
    steady = next(stage for stage in test.stages if stage.measured)
    left, at = steady.seconds or 0.0, 0.0
    for number, burst in enumerate(sorted(p.second for p in planned if p.name == BURST)):
        calm = max(burst - at, 1.0)
        stages.append(_part(steady, f"calm {number + 1}", calm, 1))
        stages.append(_part(steady, f"burst {number + 1}", LASTS, _BURST_TIMES))
        left, at = left - calm - LASTS, at + calm + LASTS
    stages.append(_part(steady, steady.name, max(left, 1.0), 1))
    return test.model_copy(update={"stages": tuple(stages)})


def _part(stage: Stage, name: str, seconds: float, times: int) -> Stage:
    users = (stage.concurrency or 1) * times
    return stage.model_copy(update={"name": name, "seconds": seconds, "concurrency": users})


@dataclass
class Episode:
    """A fault as it was; times by the wall clock."""

    name: str
    began: float
    ended: float
    words: list[str] = field(default_factory=list)


class Injector:
    """Does what was planned while the load runs, each fault in a thread of its own."""

    def __init__(self, site: Site, planned: Sequence[Planned], records: Path) -> None:
        self._site, self._records = site, records
        self._over = threading.Event()
        self.episodes: list[Episode] = []
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in planned]

    def start(self) -> Injector:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> list[Episode]:
        """Take out what is still in; the load is over."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return sorted(self.episodes, key=lambda episode: episode.began)

    def _run(self, planned: Planned) -> None:
        began = self._measured_since()
        if began is None or self._over.wait(max(0.0, began + planned.second - time.time())):
            return
        fault = FAULTS[planned.name]
        episode = Episode(planned.name, time.time(), time.time())
        self.episodes.append(episode)
        try:
            if fault is None:
                episode.words.append(f"{_BURST_TIMES} times as many users for {LASTS:g} s")
                self._over.wait(LASTS)
            else:
                episode.words.append(fault.begin(self._site))
                if not fault.passes:
                    self._over.wait(LASTS)
                episode.words.append(fault.end(self._site))
        except (OSError, httpx.HTTPError) as error:
            episode.words.append(f"it could not be done: {error}")
        episode.ended = time.time()

    def _measured_since(self) -> float | None:
        """When the load began to count; None when it never did."""
        while not self._over.wait(0.5):
            for stage in read_recording(self._records).stages:
                if stage.measured:
                    return stage.began
        return None


def what_happened(records: Path, episodes: Sequence[Episode]) -> Table:
    """Requests before, during and after the faults: a request in flight at a fault is of its time."""
    recording = read_recording(records)
    requests = main_requests(recording.requests)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("requests", "failed", "median TTFT, ms", "median TPOT, ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, own in _parts(requests, episodes):
        metrics = measure(own)
        kinds = ", ".join(f"{count} {kind}" for kind, count in metrics.error_kinds.items())
        figures = [
            f"{m.median:,.0f}" if metrics.completed else "-" for m in (metrics.ttft, metrics.tpot)
        ]
        table.add_row(name, str(len(own)), kinds or "0", *figures)
    return table


def _parts(
    requests: Sequence[RequestRecord], episodes: Sequence[Episode]
) -> Iterator[tuple[str, list[RequestRecord]]]:
    first = min(episode.began for episode in episodes)
    last = max(episode.ended for episode in episodes)
    yield "before", [r for r in requests if r.ended < first]
    for e in episodes:
        yield e.name, [r for r in requests if r.started <= e.ended and r.ended >= e.began]
    yield "after", [r for r in requests if r.started > last]


def alerts_table(alerts: Sequence[Firing], episodes: Sequence[Episode]) -> Table | None:
    """When which alerts fired, in seconds after the first fault; None when none did since then."""
    began = min(episode.began for episode in episodes)
    of_them = [alert for alert in alerts if alert.ended is None or alert.ended > began]
    if not of_them:
        return None
    table = Table(box=None, pad_edge=False)
    for heading in ("alert", "fired", "resolved"):
        table.add_column(heading, justify="left" if heading == "alert" else "right", no_wrap=True)
    for alert in of_them:
        ended = "not yet" if alert.ended is None else f"{alert.ended - began:.0f}"
        table.add_row(alert.name, f"{alert.began - began:.0f}", ended)
    return table
