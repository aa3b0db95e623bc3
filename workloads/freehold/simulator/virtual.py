"""The scheduler in virtual time: hours of load in seconds, for validation and tests."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

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


class Fetches:
    """What a scheduler wants from a shared tier: give it `ask`."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        """`seconds` that so many tokens take to arrive."""
        self.seconds = seconds
        self._asked: list[tuple[Request, int]] = []

    def ask(self, request: Request, tokens: int) -> None:
        self._asked.append((request, tokens))

    def take(self) -> list[tuple[Request, int]]:
        asked, self._asked = self._asked, []
        return asked


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
    return open_loop(scheduler, step_time, first, delay, lambda _: next(requests, None))


def open_loop(
    scheduler: Scheduler,
    step_time: StepTime,
    arrivals: Iterator[tuple[float, Request]],
    delay: Delay = lambda _: 0.0,
    when_finished: Callable[[Request], Request | None] = lambda _: None,
    fetches: Fetches | None = None,
) -> Iterator[Measured]:
    """Requests at given times; `when_finished` may name the one to send when the given one has ended.

    `fetches` are those that the scheduler asks of a shared tier.
    """
    order = itertools.count()
    coming: list[tuple[float, int, Callable[[], None]]] = []

    def later(at: float, act: Callable[[], None]) -> None:
        heapq.heappush(coming, (at, next(order), act))

    def send(request: Request, at: float) -> None:
        request.arrived = at
        later(at + delay(request), lambda: scheduler.add(request))

    for at, request in arrivals:
        send(request, at)
    now = 0.0
    while coming or scheduler.unfinished:
        while coming and coming[0][0] <= now:
            heapq.heappop(coming)[2]()
        step = scheduler.step(now)
        if fetches:
            for request, tokens in fetches.take():
                arrived = partial(scheduler.loaded, request, tokens)
                later(now + fetches.seconds(tokens), arrived)
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
            if following := when_finished(request):
                send(following, now)
