"""What is broken on purpose: simulated engines before the real gateway and picker, and ways to harm them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import httpx
import psutil

from freehold.simulator.settings import ENVIRONMENT

from ..routing import routers
from ..routing.workloads import hot_prompt

HOST = "127.0.0.1"
WORKERS = 4
# Requests that a worker runs and that wait at it; beyond them it answers 503.
SEATS, QUEUE = 8, 8
_FIRST_PORT = 17_200
# A token every 20 ms, 16,000 prompt tokens a second: as the routing benchmark's workers.
_TIMING = {"step_seconds": 0.02, "sequence_seconds": 0.0, "token_seconds": 1 / 16_000}
FLOOD_LIMIT = 120
"""Requests a minute that the flooding tenant may make; the other has no limit."""


@dataclass
class Engine:
    port: int
    scenario: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "freehold.simulator", "--model", "m"]
        argv += ["--served-model-name", "chat", "--host", HOST, "--port", str(self.port)]
        argv += ["--max-num-seqs", str(SEATS), "--max-num-queued-reqs", str(QUEUE)]
        environment = {**os.environ, ENVIRONMENT: str(self.scenario)}
        self.process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def change(self, **faults: Any) -> None:
        url = f"http://{HOST}:{self.port}/simulator/faults"
        httpx.post(url, json=faults, timeout=10).raise_for_status()


@dataclass
class Site:
    engines: list[Engine]
    door: routers.Door
    argv: dict[int, list[str]] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def picker(self) -> psutil.Process:
        return self.door.processes[0]

    def memory_mib(self) -> float:
        """Of Envoy and the picker."""
        alive = [process for process in self.door.processes if process.is_running()]
        return sum(process.memory_info().rss for process in alive) / 2**20

    def restart_picker(self) -> None:
        argv = self.argv[self.picker.pid]
        again = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.append(again)
        self.door.processes[0] = psutil.Process(again.pid)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    scenario = folder / "scenario.json"
    scenario.write_text(json.dumps({"timing": _TIMING, "faults": True}))
    engines = [Engine(_FIRST_PORT + place, scenario) for place in range(WORKERS)]
    with ExitStack() as stack:
        for engine in engines:
            engine.start()
            stack.callback(engine.kill)
        setting = routers.Setting(
            workers=tuple((HOST, engine.port) for engine in engines),
            workload=hot_prompt(0, 1.0),
            folder=folder,
            tenants=2,
            limits=(None, FLOOD_LIMIT),
        )
        door = stack.enter_context(routers.freehold("prefix").open(setting))
        made = Site(engines, door, {process.pid: process.cmdline() for process in door.processes})
        yield made
        for process in made.started:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Fault:
    what: str
    begin: Callable[[Site], None]
    end: Callable[[Site], None]
    clients: int = 0
    """More of them meanwhile, of the first tenant."""
    flood: int = 0
    """As many of the second tenant, which do not wait when they are refused."""


def _first(**faults: Any) -> Callable[[Site], None]:
    return lambda site: site.engines[0].change(**faults)


def _nothing(_: Site) -> None:
    pass


def _kill(site: Site) -> None:
    site.engines[0].kill()


def _start(site: Site) -> None:
    site.engines[0].start()


def _loop(site: Site) -> None:
    """Up for a second, dead for a second, five times."""

    def again() -> None:
        for _ in range(5):
            site.engines[0].kill()
            gevent.sleep(1)
            site.engines[0].start()
            gevent.sleep(1)

    gevent.spawn(again)


def _kill_picker(site: Site) -> None:
    site.picker.kill()


def _signal_picker(number: signal.Signals) -> Callable[[Site], None]:
    return lambda site: site.picker.send_signal(number)


FAULTS = {
    "none": Fault("nothing is wrong", _nothing, _nothing),
    "kill": Fault("a worker is killed, and starts again", _kill, _start),
    "hang": Fault(
        "a worker takes requests and never answers; its health is fine",
        _first(hung=True),
        _first(hung=False),
    ),
    "slow": Fault("a worker is ten times slower", _first(slow=10.0), _first(slow=1.0)),
    "errors": Fault("a worker answers 500", _first(error_rate=1.0), _first(error_rate=0.0)),
    "garbage": Fault(
        "a worker's streams are no event streams",
        _first(garbage_rate=1.0),
        _first(garbage_rate=0.0),
    ),
    "dead": Fault(
        "a worker's engine is gone, its server is not", _first(dead=True), _first(dead=False)
    ),
    "loop": Fault("a worker dies and starts every two seconds", _loop, _nothing),
    "picker-killed": Fault("the picker is killed", _kill_picker, Site.restart_picker),
    "picker-frozen": Fault(
        "the picker stands still",
        _signal_picker(signal.SIGSTOP),
        _signal_picker(signal.SIGCONT),
    ),
    "overload": Fault(
        "ten times as many clients as there are seats",
        _nothing,
        _nothing,
        clients=10 * WORKERS * SEATS,
    ),
    "flood": Fault(
        f"another key, limited to {FLOOD_LIMIT} a minute, sends as fast as it can",
        _nothing,
        _nothing,
        flood=16,
    ),
}
