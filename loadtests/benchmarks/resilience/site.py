"""What is broken on purpose: simulated engines before the real gateway and picker, and ways to harm them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import httpx
import psutil

from freehold.load.client import Call
from freehold.load.record import RequestRecord
from freehold.simulator.settings import ENVIRONMENT

from ..routing import routers
from ..routing.engine import SIMULATED
from ..routing.workloads import hot_prompt

HOST = "127.0.0.1"
WORKERS, GATEWAYS = 4, 2
# Requests that a worker runs, and has in all: one more waits, others are answered 503.
SEATS, MOST = 8, 9
# Ports of engines, of the cache that they share, and of gateways and picker.
_FIRST_PORT, _CACHE, _FIRST_DOOR = 17_200, 17_210, 17_220
FLOOD_LIMIT = 120
"""Requests a minute that the flooding tenant may make; the other has no limit."""

_SHARED = {
    "kv_connector": "LMCacheMPConnector",
    "kv_connector_extra_config": {
        "lmcache.mp.host": f"tcp://{HOST}",
        "lmcache.mp.port": _CACHE,
    },
}


@dataclass
class Cache:
    """What plays LMCache and Redis, for all engines."""

    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "freehold.simulator.shared_tier", "--host", HOST]
        argv += ["--port", str(_CACHE), "--http-port", str(_CACHE + 1), "--chunk-size", "64"]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        _kill_process(self.process)

    def change(self, **faults: Any) -> None:
        _change(_CACHE + 1, faults)


@dataclass
class Engine:
    port: int
    scenario: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, "-m", "freehold.simulator", "--model", "m"]
        argv += ["--served-model-name", "chat", "--host", HOST, "--port", str(self.port)]
        argv += ["--max-num-seqs", str(SEATS), "--max-num-queued-reqs", str(MOST)]
        argv += ["--kv-transfer-config", json.dumps(_SHARED)]
        environment = {**os.environ, ENVIRONMENT: str(self.scenario)}
        self.process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        _kill_process(self.process)

    def change(self, **faults: Any) -> None:
        _change(self.port, faults)


def _kill_process(process: subprocess.Popen[bytes] | None) -> None:
    if process:
        process.kill()
        process.wait()


def _change(port: int, faults: dict[str, Any]) -> None:
    url = f"http://{HOST}:{port}/simulator/faults"
    httpx.post(url, json=faults, timeout=10).raise_for_status()


@dataclass
class Site:
    engines: list[Engine]
    cache: Cache
    door: routers.Door
    argv: dict[int, list[str]] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def picker(self) -> psutil.Process:
        return self.door.processes[0]

    @property
    def gateway(self) -> psutil.Process:
        """The first of them."""
        return self.door.processes[1]

    def send(self, call: Call, tenant: int) -> RequestRecord:
        """To the gateways by turn. Where nobody listens the next one is tried, as behind a Service."""
        began = time.perf_counter()
        while (record := self.door.send(call, tenant)).error_kind == "refused":
            gevent.sleep(0.01)
        record.started = began
        return record

    def memory_mib(self) -> float:
        """Of the gateways and the picker."""
        alive = [process for process in self.door.processes if process.is_running()]
        return sum(process.memory_info().rss for process in alive) / 2**20

    def restart(self, place: int) -> None:
        """The picker (0) or a gateway."""
        argv = self.argv[self.door.processes[place].pid]
        again = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.append(again)
        self.door.processes[place] = psutil.Process(again.pid)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    scenario = folder / "scenario.json"
    scenario.write_text(json.dumps({"timing": SIMULATED, "faults": True}))
    engines = [Engine(_FIRST_PORT + place, scenario) for place in range(WORKERS)]
    cache = Cache()
    with ExitStack() as stack:
        cache.start()
        stack.callback(cache.kill)
        for engine in engines:
            engine.start()
            stack.callback(engine.kill)
        setting = routers.Setting(
            workers=tuple((HOST, engine.port) for engine in engines),
            workload=dataclasses.replace(hot_prompt(0, 1.0), gateways=GATEWAYS),
            folder=folder,
            tenants=2,
            limits=(None, FLOOD_LIMIT),
            first_port=_FIRST_DOOR,
        )
        door = stack.enter_context(routers.freehold("prefix").open(setting))
        argv = {process.pid: process.cmdline() for process in door.processes}
        made = Site(engines, cache, door, argv)
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


def _kill_gateway(site: Site) -> None:
    site.gateway.kill()


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
    "gateway-killed": Fault(
        "one of two gateways is killed", _kill_gateway, lambda site: site.restart(1)
    ),
    "picker-killed": Fault("the picker is killed", _kill_picker, lambda site: site.restart(0)),
    "picker-frozen": Fault(
        "the picker stands still",
        _signal_picker(signal.SIGSTOP),
        _signal_picker(signal.SIGCONT),
    ),
    "cache-killed": Fault(
        "the cache that workers share is killed",
        lambda site: site.cache.kill(),
        lambda site: site.cache.start(),
    ),
    "cache-slow": Fault(
        "each look into the shared cache takes half a second",
        lambda site: site.cache.change(slow_seconds=0.5),
        lambda site: site.cache.change(slow_seconds=0.0),
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
