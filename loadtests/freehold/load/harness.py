"""One generator process's part of a run: what its users share, and how it ends."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import gevent
from gevent.pool import Group

from .arrivals import Arrival, arrivals, read_trace
from .client import Call, StreamingClient
from .record import Health, Recorder, RequestRecord
from .saturation import Count
from .selfcheck import as_note, calibrate
from .test import API_KEY, LoadTest
from .traffic import Traffic
from .traffic.prepare import make_texts
from .traffic.sessions import Session, session

# A server that refuses this many requests in a row over this many seconds is gone.
_GONE_FAILURES = 20
_GONE_SECONDS = 5.0
# A client waits after a failure; OpenAI's own begins with half a second (openai 2, `INITIAL_RETRY_DELAY`).
_AGAIN = 0.5
_TICK = 0.01
_NOT_THERE = ("refused", "disconnected")

Heard = Callable[[RequestRecord], None]


class Generator:
    """Sends the test's requests and records them. `heard` is told each finished request."""

    def __init__(self, test: LoadTest, traffic: Traffic, place: int = 0) -> None:
        self.test = test
        self.traffic = _adapted(traffic, test)
        self.heard: Heard = lambda record: None
        self.stopping = False
        self.aborted: str | None = None
        self._key = os.environ.get(API_KEY) or None
        self._client = StreamingClient(test.base_url, self._key, test.timeout)
        self._names = itertools.count()
        self._open = 0
        self._ended = self._failed = 0
        self._failures = 0
        self._last_success = time.perf_counter()
        self._left: int | None = None
        self._begun = False
        self.begin_as(place)
        test.out.mkdir(parents=True, exist_ok=True)
        self.recorder = Recorder(test.out)

    def begin_as(self, place: int) -> None:
        """Say which of the test's processes this is: it decides the share of the requests."""
        self.place = place
        self._left = self._share(self.test.requests) if self.test.requests else None

    def prepare(self) -> None:
        """Prove the generator and count the texts: before the load, never during it."""
        if self.test.self_check:
            self.recorder.note(calibration=as_note(calibrate()))
        self.texts = make_texts(self.test, self._key)
        self.recorder.note(
            traffic=self.traffic.model_dump(mode="json"), exact_lengths=self.texts.corpus.exact
        )

    def watch(self) -> None:
        """For ever: how late this process's event loop wakes and how much CPU it uses."""
        while True:
            lags = []
            began, cpu = time.perf_counter(), time.process_time()
            while time.perf_counter() - began < 1.0:
                due = time.perf_counter() + _TICK
                gevent.sleep(_TICK)
                lags.append(max(0.0, time.perf_counter() - due))
            seconds = time.perf_counter() - began
            lags.sort()
            self.recorder.health(
                Health(
                    at=began,
                    cpu=(time.process_time() - cpu) / seconds,
                    lag=lags[-1],
                    lag_median=lags[len(lags) // 2],
                )
            )

    # --- closed loop ---------------------------------------------------------------------------------

    def new_session(self) -> Session:
        name = f"{self.place}-{next(self._names)}"
        return session(self.traffic, self.texts, self.test.model, name)

    def think(self) -> float:
        """Seconds until a user's next request: exponential, so that users do not march in step."""
        mean = self.traffic.think_seconds
        return random.expovariate(1 / mean) if mean else 0.0

    def take(self) -> bool:
        """One more request of the run's number; False when all are taken or the run is ending."""
        self._begun = True
        if self.stopping:
            return False
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    def perform(self, calls: list[Call], warmup: bool = False) -> None:
        self._open += 1
        try:
            for call in calls:
                if call.pause:
                    gevent.sleep(call.pause)
                self._one(call, None, warmup)
        finally:
            self._open -= 1

    # --- open loop -----------------------------------------------------------------------------------

    def send_all(self) -> None:
        """Send each arrival of this process's share at its time, and wait until all have ended."""
        self._begun = True
        idle: list[Session] = []
        group = Group()
        start = time.perf_counter()
        for arrival in self.schedule():
            due = start + arrival.at
            wait = due - time.perf_counter()
            if wait > 0:
                gevent.sleep(wait)
            if self.stopping:
                break
            group.spawn(self._arrive, idle, arrival, due)
        group.join()
        self.stopping = True

    def schedule(self) -> Iterator[Arrival]:
        test = self.test
        if test.trace is not None:
            everyone: Iterator[Arrival] = iter(read_trace(test.trace))
        else:
            everyone = arrivals(
                test.stages, test.process, test.burstiness, _seed(test.salt), test.requests
            )
        return itertools.islice(everyone, self.place, None, test.processes)

    def _arrive(self, idle: list[Session], arrival: Arrival, due: float) -> None:
        """An arrival goes on with a conversation that waits, or begins one."""
        if arrival.input_tokens is not None:
            lengths = {"kind": "fixed", "input_tokens": arrival.input_tokens}
            if arrival.output_tokens is not None:
                lengths |= {"output_tokens": arrival.output_tokens, "output_spread": 0.0}
            traffic = self.traffic.model_copy(update=lengths)
            own = session(traffic, self.texts, self.test.model, f"{self.place}-{next(self._names)}")
        else:
            own = idle.pop() if idle else self.new_session()
        for number, call in enumerate(next(own)):
            # Only the first call of a flow has an appointed time; the others follow their answers.
            intended = due if number == 0 else None
            self._one(call, intended, not arrival.measured, arrival.stage)
        if arrival.input_tokens is None:
            idle.append(own)

    # --- both ----------------------------------------------------------------------------------------

    @property
    def seen(self) -> Count:
        return Count(self._client.outputs, self._ended, self._failed)

    @property
    def finished(self) -> bool:
        """This process sends no more, and all that it sent has ended."""
        done = self.stopping or (self._begun and self._left is not None and self._left <= 0)
        return done and not self._open

    def stop(self, reason: str | None = None) -> None:
        """Send no more; requests in flight end. With a reason the run is no valid measurement."""
        self.stopping = True
        if reason and not self.aborted:
            self.aborted = reason
            self.recorder.note(aborted=reason)

    def close(self) -> None:
        with suppress(OSError):
            self.recorder.close()

    def _one(
        self, call: Call, intended: float | None, warmup: bool, stage: str | None = None
    ) -> None:
        record = self._client.send(call, intended)
        record.warmup, record.stage = warmup, stage
        self.recorder.add(record)
        self._ended += 1
        self._failed += record.error_kind is not None
        self.heard(record)
        self._mind(record)

    def _mind(self, record: RequestRecord) -> None:
        """End the run when the server is gone or the records cannot be kept."""
        if self.recorder.failed and not self.aborted:
            self.stop(f"the records could not be written: {self.recorder.failed}")
        if record.error_kind:
            gevent.sleep(_AGAIN)  # a closed loop would hammer a closed door
        if record.error_kind not in _NOT_THERE:
            self._failures, self._last_success = 0, time.perf_counter()
            return
        self._failures += 1
        silent = time.perf_counter() - self._last_success
        if self._failures >= _GONE_FAILURES and silent > _GONE_SECONDS:
            self.stop(
                f"{self.test.base_url} stopped answering: {self._failures} requests in a row failed "
                f"over {silent:.0f} s ({record.error})"
            )

    def _share(self, total: int) -> int:
        """This process's part of a number: the parts add up to it."""
        parts = self.test.processes
        return total // parts + (self.place < total % parts)


def _adapted(traffic: Traffic, test: LoadTest) -> Traffic:
    """The tier's traffic with the stack's own side models, scaled to what the model can take."""
    known = {"embed_model": test.embed_model, "rerank_model": test.rerank_model}
    missing = {name: value for name, value in known.items() if getattr(traffic, name) is None}
    return traffic.model_copy(update=missing).within(test.max_model_len)


def _seed(salt: str) -> int:
    return random.Random(salt).getrandbits(32)
