"""The scheduler in virtual time: hours of load in seconds, for validation and tests."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .request import Request
from .scheduler import Scheduler, Step

StepTime = Callable[[Step], float]
"""Seconds that a step takes."""
Delay = Callable[[Request], float]


@dataclass(frozen=True)
class Measured:
    """One finished request, seconds."""

    start: float
    first_token: float
    end: float
    output: int
    cached: int

    @property
    def ttft(self) -> float:
        return self.first_token - self.start

    @property
    def tpot(self) -> float:
        """As `vllm bench serve`: the first token's time is not in it. 0 for one token."""
        return (self.end - self.first_token) / (self.output - 1) if self.output > 1 else 0.0


def closed_loop(
    scheduler: Scheduler,
    step_time: StepTime,
    requests: Iterator[Request],
    concurrency: int,
    delay: Delay = lambda _: 0.0,
) -> Iterator[Measured]:
    """Keep `concurrency` requests in flight until there are no more; yields each as it finishes.

    `delay` is a request's way to the scheduler.
    """
    first = ((0.0, request) for request in itertools.islice(requests, concurrency))
    return open_loop(scheduler, step_time, first, delay, lambda: next(requests, None))


def open_loop(
    scheduler: Scheduler,
    step_time: StepTime,
    arrivals: Iterator[tuple[float, Request]],
    delay: Delay = lambda _: 0.0,
    when_finished: Callable[[], Request | None] = lambda: None,
) -> Iterator[Measured]:
    """Requests at given times; `when_finished` may name another one to send on a request's end."""
    order = itertools.count()
    coming: list[tuple[float, int, Request]] = []

    def send(request: Request, at: float) -> None:
        request.arrived = at
        heapq.heappush(coming, (at + delay(request), next(order), request))

    for at, request in arrivals:
        send(request, at)
    now = 0.0
    while coming or scheduler.unfinished:
        while coming and coming[0][0] <= now:
            scheduler.add(heapq.heappop(coming)[2])
        step = scheduler.step(now)
        if not step:
            if not coming:
                raise RuntimeError(
                    "requests wait for what never comes: memory is too small for one"
                )
            now = coming[0][0]
            continue
        now += step_time(step)
        for request, _ in scheduler.complete(step, now):
            request.first_token = request.first_token or now
            if request.finish is None:
                continue
            yield Measured(
                request.arrived, request.first_token, now, request.output, request.cached or 0
            )
            if following := when_finished():
                send(following, now)
