"""The locust side: one user class for all traffic, the test's stages as a load shape, and live figures.

Importing this module makes a file a locustfile (it patches the process for gevent, as locust does).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.stats import bucket_response_time

from freehold.config import FreeholdError

from .harness import Generator
from .record import Recorder, RequestRecord, StageStart
from .saturation import Count, Level, saturated
from .stages import Stage
from .test import API_KEY, TEST_FILE, LoadTest, read_test
from .traffic import Traffic, tier_traffic

# What master and workers tell each other.
READY, PROGRESS, END, RECORDS, FINISHED = (
    f"freehold-{word}" for word in ("ready", "progress", "end", "records", "finished")
)
# A worker calibrates itself and counts the texts, seconds each; all wait for the last.
_PATIENCE = 180.0
_CHUNK = 1 << 20
# Share of a warm-up in which the users come.
_COMING = 0.6
# Rows of locust's statistics. Locust rounds them: they are to look at, the report has the figures.
TTFT_ROW, TOKEN_ROW = "time to first token", "each token after the first"


class LoadUser(User):
    """A client of the model. A tier file subclasses it and says which traffic its users send."""

    abstract = True
    traffic: Traffic = tier_traffic("small")

    def on_start(self) -> None:
        self._generator = _generator()
        self._session = self._generator.new_session()
        self._requests = 0

    def wait_time(self) -> float:
        return self._generator.think()

    @task
    def use(self) -> None:
        generator = self._generator
        if generator.test.open_loop:
            generator.send_all()
            raise StopUser
        warmup = generator.test.warm_users and self._requests == 0
        if not warmup and not generator.take():
            raise StopUser
        self._requests += 1
        generator.perform(next(self._session), warmup)


class StagesShape(LoadTestShape):
    """Walks through the test's stages, then lets all requests in flight end.

    Locust would cut them short: it stops users within its --stop-timeout, or at once.
    """

    abstract = True

    def __init__(self, test: LoadTest, recorder: Recorder, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self._test = test
        self._recorder = recorder
        self._stage: Stage | None = None
        self._users = 1
        self._rate = 1.0
        self._created = time.monotonic()
        self._seen: list[tuple[float, Count]] = []
        self._level: Level | None = None
        self._ended = False
        self.progress: dict[str, Count] = {}
        """What each worker process has seen so far."""
        self.ready: set[str] = set()
        self.finished: set[str] = set()
        """Worker processes that have nothing more to send and nothing in flight."""

    def tick(self) -> tuple[int, float] | None:
        if self._over():
            return None
        if self._stage is None and not self._all_ready():
            self.reset_time()
            return 0, 1.0
        now = self.get_run_time()
        stage = self._at(now)
        self._seen.append((now, self._count()))
        if stage is not self._stage and not self._ended:
            self._leave(stage)
            if stage is not None and not self._ended:
                self._enter(stage)
        return self._users, self._rate

    def _at(self, seconds: float) -> Stage | None:
        """The stage of a time; None when all are over."""
        for stage in self._test.stages:
            if stage.seconds is None or seconds < stage.seconds:
                return stage
            seconds -= stage.seconds
        return None

    def _count(self) -> Count:
        if isinstance(self.runner, MasterRunner):
            return sum(self.progress.values(), Count())
        return _generator().seen

    def _leave(self, following: Stage | None) -> None:
        """Judge the stage that is over, and end the run where it is the last or was enough."""
        stage, why = self._stage, None
        if self._test.until_saturated and stage and stage.measured:
            level = self._measured(stage)
            why = saturated(self._level, level, self._test.open_loop)
            self._level = level
            if why or following is None:
                self._recorder.note(saturation={"level": stage.name, "why": why})
        self._ended = why is not None or following is None
        # The schedule of an open loop ends by itself, when its last request is sent.
        if why or (self._ended and not self._test.open_loop):
            self._end()

    def _measured(self, stage: Stage) -> Level:
        """By its second half: the first still has the load of the stage before."""
        half = self._seen[len(self._seen) // 2 :]
        (begin, before), (end, now) = half[0], half[-1]
        return Level(stage.name, stage.level, now - before, max(end - begin, 1e-9))

    def _enter(self, stage: Stage) -> None:
        before = self._users if self._stage else 0
        self._stage = stage
        self._seen = self._seen[-1:]
        # In an open loop one user a process keeps the schedule of its share.
        self._users = self._test.processes if self._test.open_loop else stage.concurrency or 1
        self._rate = max(1.0, float(abs(self._users - before)))  # all at once, both ways
        if not stage.measured and stage.seconds and not self._test.open_loop:
            # One after another: users who begin together run in step for long.
            self._rate = self._users / max(1.0, _COMING * stage.seconds)
        began = self.start_time + self.get_run_time()
        self._recorder.stage(
            StageStart(stage.name, began, stage.measured, stage.concurrency, stage.rate)
        )
        self._recorder.flush()

    def _end(self) -> None:
        if isinstance(self.runner, MasterRunner):
            self.runner.send_message(END)
        else:
            _generator().stop()

    def _all_ready(self) -> bool:
        """Whether every worker process has prepared itself; a run without all of them is none."""
        if not isinstance(self.runner, MasterRunner) or len(self.ready) >= self._test.processes:
            return True
        if time.monotonic() - self._created > _PATIENCE:
            found = f"{len(self.ready)} of {self._test.processes} generator processes became ready"
            self._recorder.note(aborted=f"only {found}")
            self.finished = set(self.runner.clients)
        return False

    def _over(self) -> bool:
        if isinstance(self.runner, MasterRunner):
            return bool(self.finished) and self.finished >= set(self.runner.clients)
        return _generator().finished


_generators: list[Generator] = []


def _generator() -> Generator:
    return _generators[0]


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser, **_: Any) -> None:
    parser.add_argument("--model", default="chat", help="the served model's name")
    parser.add_argument(
        "--api-key",
        env_var=API_KEY,
        default="",
        is_secret=True,
        help=f"gateway key (better as the environment variable {API_KEY})",
    )
    parser.add_argument("--input-tokens", type=int, default=0, help="0: as the traffic has it")
    parser.add_argument("--output-tokens", type=int, default=0, help="0: as the traffic has it")
    parser.add_argument("--max-model-len", type=int, default=0, help="scale the traffic to this")
    parser.add_argument("--out", default="", include_in_web_ui=False, help="folder of the records")


@events.init.add_listener
def _init(environment: Environment, runner: Runner, **_: Any) -> None:
    """Make ready before the first user: a mistake here ends locust with one clear message."""
    try:
        test = _test_of(environment)
        if isinstance(runner, MasterRunner):
            _lead(environment, runner, test)
        else:
            _work(environment, runner, test)
    except FreeholdError as error:
        print(f"freehold: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def _lead(environment: Environment, runner: MasterRunner, test: LoadTest) -> None:
    """The master sends nothing: it walks through the stages and waits for its workers."""
    test.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder(test.out)
    environment.events.quitting.add_listener(lambda **_: recorder.close())
    if TEST_FILE not in os.environ:
        return
    shape = StagesShape(test, recorder, runner)
    environment.shape_class = shape

    def ready(msg: Any, **_: Any) -> None:
        shape.ready.add(msg.node_id)

    def progress(msg: Any, **_: Any) -> None:
        shape.progress[msg.node_id] = Count(**msg.data)

    def finished(msg: Any, **_: Any) -> None:
        shape.finished.add(msg.node_id)

    def records(msg: Any, **_: Any) -> None:
        with (test.out / Path(msg.data["name"]).name).open("ab") as file:
            file.write(msg.data["data"])

    runner.register_message(READY, ready)
    runner.register_message(PROGRESS, progress)
    runner.register_message(FINISHED, finished)
    runner.register_message(RECORDS, records)


def _work(environment: Environment, runner: Runner, test: LoadTest) -> None:
    user = environment.user_classes[0]
    traffic = test.traffic or getattr(user, "traffic", tier_traffic("small"))
    generator = Generator(test, traffic)
    _generators[:] = [generator]
    generator.prepare()
    generator.heard = lambda record: _tell(environment, record)
    gevent.spawn(generator.watch)
    environment.events.quitting.add_listener(lambda **_: generator.close())
    environment.events.user_error.add_listener(_stop_on_error)
    if isinstance(runner, WorkerRunner):
        # Known since the master took it in, which was before this.
        generator.begin_as(max(0, runner.worker_index))
        runner.register_message(END, lambda **_: generator.stop())
        gevent.spawn(_report_end, environment, runner, generator)
        runner.send_message(READY)
    elif TEST_FILE in os.environ:
        environment.shape_class = StagesShape(test, generator.recorder, runner)
    else:  # locust's own control: by default it would cut requests short when it stops
        environment.stop_timeout = environment.stop_timeout or test.timeout


def _stop_on_error(exception: Exception, **_: Any) -> None:
    _generator().stop(f"an error of the load test itself: {type(exception).__name__}: {exception}")


def _report_end(environment: Environment, runner: WorkerRunner, generator: Generator) -> None:
    """Tell how far it is; when its share is done hand its records over, and let the master stop it."""
    told = time.monotonic()
    while not generator.finished:
        gevent.sleep(0.1)
        if time.monotonic() - told >= 1.0:
            told = time.monotonic()
            runner.send_message(PROGRESS, asdict(generator.seen))
    if runner.master_host not in ("127.0.0.1", "localhost"):
        generator.recorder.flush()
        name, data = generator.recorder.path.name, generator.recorder.path.read_bytes()
        for start in range(0, len(data), _CHUNK):
            runner.send_message(RECORDS, {"name": name, "data": data[start : start + _CHUNK]})
    # A worker that was told to stop sleeps for the time limit before it hears anything else.
    environment.stop_timeout = 1.0
    runner.send_message(FINISHED)


def _tell(environment: Environment, record: RequestRecord) -> None:
    """Show a request in locust's live statistics. Its tokens are rows beside, not in the total."""
    error = f"{record.error_kind}: {record.error}" if record.error_kind else None
    environment.events.request.fire(
        request_type="POST",
        name=record.name,
        response_time=(record.latency or 0.0) * 1000,
        response_length=0,
        context={},
        exception=RuntimeError(error) if error else None,
    )
    if record.ok and record.ttft is not None:
        _row(environment, TTFT_ROW, record.ttft, 1)
    if record.ok and record.tpot is not None:
        _row(environment, TOKEN_ROW, record.tpot, (record.output_tokens or 1) - 1)


def _row(environment: Environment, name: str, seconds: float, times: int) -> None:
    """So many events of one duration: locust has no call for many at once."""
    milliseconds = seconds * 1000
    entry = environment.stats.get(name, "SSE")
    entry.log(milliseconds, 0)  # type: ignore[arg-type]
    entry.num_requests += times - 1
    entry.num_reqs_per_sec[int(entry.last_request_timestamp or 0)] += times - 1
    entry.total_response_time += (times - 1) * milliseconds  # type: ignore[assignment]
    entry.response_times[bucket_response_time(milliseconds)] += times - 1  # type: ignore[arg-type]


def _test_of(environment: Environment) -> LoadTest:
    """The test of `freehold load`, or one made of locust's own options."""
    if path := os.environ.get(TEST_FILE):
        return read_test(Path(path))
    options = environment.parsed_options
    assert options is not None
    if not environment.host:
        raise FreeholdError("--host says where to send requests, for example http://127.0.0.1:8080")
    if options.api_key:
        os.environ[API_KEY] = options.api_key
    user = environment.user_classes[0]
    traffic: Traffic = getattr(user, "traffic", tier_traffic("small"))
    if options.input_tokens:
        traffic = traffic.model_copy(update={"kind": "fixed", "input_tokens": options.input_tokens})
    if options.output_tokens:
        traffic = traffic.model_copy(
            update={"output_tokens": options.output_tokens, "output_spread": 0.0}
        )
    out = Path(options.out or tempfile.mkdtemp(prefix="freehold-load-"))
    return LoadTest(
        base_url=environment.host.rstrip("/").removesuffix("/v1"),
        model=options.model,
        out=out,
        corpora=Path(tempfile.gettempdir()) / "freehold-corpora",
        traffic=traffic,
        stages=(Stage(name="all"),),
        max_model_len=options.max_model_len or None,
    )
