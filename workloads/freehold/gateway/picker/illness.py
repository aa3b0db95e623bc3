"""Workers whose health check is fine and who yet answer badly: with errors, with garbage, never, or far
too slowly.

Bad answers, which the gateways report, and requests that do not end make a worker suspect. The same
harmless request to the suspect and to its peers then decides: who does worse than they is ill and left
out, until it answers as well as they again. So it is never the clients' requests that take a worker out,
however many of them no engine can answer, nor a load that all bear."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from . import metrics
from .background import Background
from .config import PoolConfig
from .fleet import Fleet
from .policy import Worker
from .probe import ask

_LOOK_SECONDS = 1.0
# Requests of a pool take a usual time. Suspect is a worker where they take four times that, or where none
# has ended for so long: by chance that happens in e^-4, 2 %, of the times that one ends. What is added is
# for pools whose answers are short.
_USUAL_TIMES = 4.0
_LATE_SECONDS, _QUIET_SECONDS = 0.5, 2.0
# Shares that are forgotten a second: the last minute says what is usual, the last seconds what is now.
_USUALLY, _NOW = 0.02, 0.5
# Ill is who is so much slower than two peers on average, three times in a row (a tenth of a second is
# chance): a worker behind one long prompt is slow once. A worker four times slower still pays its place.
_SLOW_TIMES, _SLOW_SECONDS = 4.0, 0.1
_ILL = 3
_PEERS = 2


def most_left_out(workers: int) -> int:
    """A third of a pool, but one of two; never the only one."""
    return max(1, workers // 3) if workers > 1 else 0


def verdict(took: float | None, peers: Sequence[float | None]) -> int:
    """How many symptoms an answer in `took` seconds adds, beside those of peers. Negative is well."""
    answered = [peer for peer in peers if peer is not None and peer < math.inf]
    if took is None or not answered:
        return 0
    if took == math.inf:
        return _ILL
    return 1 if took > _SLOW_TIMES * fmean(answered) + _SLOW_SECONDS else -1


@dataclass
class Pace:
    """How long a request takes: by Little's law, without a clock for each."""

    forgotten: float
    waited: float = 0.0
    """Seconds, of all requests together."""
    ended: float = 0.0

    def observe(self, in_flight: int, ended: int) -> None:
        self.waited += in_flight * _LOOK_SECONDS - self.forgotten * self.waited
        self.ended += ended - self.forgotten * self.ended

    @property
    def seconds(self) -> float:
        return self.waited / max(1.0, self.ended)


@dataclass
class Chart:
    """What is noted about one worker."""

    ended: int
    pace: Pace = field(default_factory=lambda: Pace(_NOW))
    quiet: float = 0.0
    """Seconds that requests have waited at it, all together, since one ended there last."""


class Ward(Background):
    """The workers of one pool: who is suspect, who is ill, who is left out. An async context."""

    def __init__(self, pool: PoolConfig, fleet: Fleet) -> None:
        super().__init__()
        self._pool = pool
        self._fleet = fleet
        self._usual = Pace(_USUALLY)
        self._charts: dict[Worker, Chart] = {}
        self._ill: list[Worker] = []
        """The longest ill first."""
        self._examined: set[Worker] = set()

    async def __aenter__(self) -> Ward:
        self._start(self._watch())
        return self

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """What a second brings: who is suspect now is examined."""
        workers = self._fleet.healthy(self._pool.name)
        self._forget_all_but(workers)
        for worker in workers:
            if self._is_late(worker):
                worker.suspect = True
        for worker in workers:
            if (worker.suspect or worker.symptoms) and worker not in self._examined:
                peers = [w for w in workers if w is not worker and not w.symptoms][:_PEERS]
                if peers:
                    self._examined.add(worker)
                    self._start(self._examine(worker, peers))

    def _is_late(self, worker: Worker) -> bool:
        chart = self._charts.setdefault(worker, Chart(worker.ended))
        in_flight, ended = worker.in_flight, worker.ended - chart.ended
        chart.ended = worker.ended
        chart.pace.observe(in_flight, ended)
        idle = ended or not in_flight
        chart.quiet = 0.0 if idle else chart.quiet + in_flight * _LOOK_SECONDS
        if worker not in self._ill:
            self._usual.observe(in_flight, ended)
        usual = _USUAL_TIMES * self._usual.seconds
        slow = chart.pace.seconds > usual + _LATE_SECONDS
        return slow or chart.quiet > usual + _QUIET_SECONDS * max(1, in_flight)

    async def _examine(self, worker: Worker, peers: list[Worker]) -> None:
        worker.suspect = False
        try:
            asked = (ask(w.address, self._pool.role, self._pool.model) for w in (worker, *peers))
            took, *theirs = await asyncio.gather(*asked)
            found = verdict(took, theirs)
            worker.symptoms = min(_ILL, max(0, worker.symptoms + found))
            if worker.symptoms == _ILL and worker not in self._ill:
                self._ill.append(worker)
                self._tell(worker, "fails" if took == math.inf else "slow")
            elif not worker.symptoms and worker in self._ill:
                self._ill.remove(worker)
                self._tell(worker, None)
            self._leave_out()
        finally:
            self._examined.discard(worker)

    def _leave_out(self) -> None:
        workers = self._fleet.healthy(self._pool.name)
        out = self._ill[: most_left_out(len(workers))]
        for worker in workers:
            worker.left_out = worker in out

    def _forget_all_but(self, workers: list[Worker]) -> None:
        """Who fails its health check comes back as another."""
        for worker in self._charts.keys() - set(workers):
            del self._charts[worker]
            worker.suspect, worker.symptoms, worker.left_out = False, 0, False
            if worker in self._ill:
                self._ill.remove(worker)
        self._leave_out()

    def _tell(self, worker: Worker, why: str | None) -> None:
        if why:
            metrics.ILL.labels(worker.pool, worker.name, why).inc()
        said = f"answers worse than its peers ({why})" if why else "answers as its peers again"
        print(f"picker: {worker.pool} {worker.name} {said}", file=sys.stderr, flush=True)
