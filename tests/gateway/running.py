"""A real Envoy, and a real picker where wanted, before stub engines."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
from ports import free_ports

from freehold.gateway import envoy, launch
from freehold.gateway.model import ApiKey, Gateway, Policy, Pool, Worker

from .cases import Mutation
from .door import Door, Json
from .stub_engine import Seen, StubEngine

T = TypeVar("T")
KEY, LIMITED, NARROW = "key-of-acme", "key-of-limited", "key-of-narrow"
LEFT, RIGHT = "key-of-left", "key-of-right"
"""Two tenants of one cache group."""
LIMIT_PER_MINUTE = 6
POLICIES: dict[str, Policy] = {
    "chat": "prefix",
    "by-session": "session",
    "by-load": "least_request",
    "by-turn": "round_robin",
}
_NAMES = (*POLICIES, "lora", "embed", "rerank")


@dataclass
class Engines:
    """Four that generate (each a worker of every generating pool), one that embeds, one that reranks."""

    generate: list[StubEngine] = field(
        default_factory=lambda: [StubEngine(f"chat-{i}", _NAMES) for i in range(4)]
    )
    embed: StubEngine = field(default_factory=lambda: StubEngine("embed-0", _NAMES))
    rerank: StubEngine = field(default_factory=lambda: StubEngine("rerank-0", _NAMES))

    def all(self) -> list[StubEngine]:
        return [*self.generate, self.embed, self.rerank]

    def start(self) -> None:
        for engine in self.all():
            engine.start()

    def stop(self) -> None:
        for engine in self.all():
            engine.stop()


@dataclass
class PickerProcess:
    """The picker beside a bench's Envoy, which a case may freeze or kill, and must bring back."""

    argv: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self.argv, stdout=output, stderr=output)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()


@dataclass(frozen=True)
class Bench(Door):
    """A door with its engines, processes and files in reach."""

    engines: Engines = field(default_factory=Engines)
    gateway: Gateway = field(default_factory=lambda: gateway_for(Engines(), None))
    folder: Path = Path()
    picker_process: PickerProcess | None = None

    def served(self, request_id: str) -> list[tuple[StubEngine, Seen]]:
        return [(e, s) for e in self.engines.all() for s in e.seen if s.id == request_id]

    def sole(self, request_id: str) -> tuple[StubEngine, Seen]:
        """The one engine that got this request, and what it got."""
        served = self.served(request_id)
        assert len(served) == 1, [engine.name for engine, _ in served]
        return served[0]

    def worker_of(self, response: httpx.Response) -> str:
        """The engine that answered; a request that reached several is a failure here."""
        assert response.status_code == 200, response.text[:300]
        engine, _ = self.sole(response.headers["x-request-id"])
        return engine.name

    def release(self) -> None:
        for engine in self.engines.all():
            engine.release()

    def access_log(self, request_id: str) -> Json:
        """The request's line, once Envoy has written it."""

        def lines() -> list[Json]:
            text = (self.folder / "access.log").read_text()
            return [json.loads(line) for line in text.splitlines() if request_id in line]

        return until(lambda: next(iter(lines()), None))

    def envoy_stat(self, ending: str) -> int:
        """Sum of Envoy's counters and gauges whose name ends so."""
        admin = f"http://127.0.0.1:{self.gateway.admin_port}/stats"
        text = httpx.get(admin, params={"filter": f"{ending}$"}).text
        return sum(int(line.rsplit(": ", 1)[1]) for line in text.splitlines())

    def picker_metric(self, name: str, **labels: str) -> float:
        assert self.gateway.picker is not None
        health = self.gateway.picker_health()
        assert health is not None
        text = httpx.get(f"http://{health[0]}:{health[1]}/metrics").text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(name) and all(label in line for label in wanted)
        )


def gateway_for(
    engines: Engines, folder: Path | None, picker: bool = False, sealed: bool = False
) -> Gateway:
    def workers(of: list[StubEngine]) -> tuple[Worker, ...]:
        return tuple(Worker(engine.name, "127.0.0.1", engine.port) for engine in of)

    door, admin, grpc, http = free_ports(4)
    pools = [
        Pool(
            name,
            "generate",
            models=("chat", "lora") if name == "chat" else (name,),
            aliases={"gpt-4o": "chat"} if name == "chat" else {},
            workers=workers(engines.generate),
            policy=policy,
        )
        for name, policy in POLICIES.items()
    ]
    pools.append(Pool("embed", "embed", ("embed",), workers([engines.embed])))
    pools.append(Pool("rerank", "rerank", ("rerank",), workers([engines.rerank])))
    return Gateway(
        port=door,
        admin_port=admin,
        pools=tuple(pools),
        keys=(
            ApiKey(KEY, "acme"),
            ApiKey(LIMITED, "limited", requests_per_minute=2 * LIMIT_PER_MINUTE),
            ApiKey(NARROW, "narrow", models=("embed",)),
            ApiKey(LEFT, "left", cache_group="both"),
            ApiKey(RIGHT, "right", cache_group="both"),
        ),
        picker=("127.0.0.1", grpc) if picker else None,
        picker_http=("127.0.0.1", http) if picker else None,
        replicas=2,  # each has half of a tenant's limit
        sealed=sealed,
        access_log=str(folder / "access.log") if folder else "/dev/stdout",
    )


@contextmanager
def started(
    gateway: Gateway, folder: Path, config: Json | None = None
) -> Iterator[PickerProcess | None]:
    """The picker, where the gateway has one, and Envoy, with every engine in rotation; stopped at the end.
    `config` is Envoy's, where it is not the gateway's own."""
    with ExitStack() as stack:
        picker = None
        if gateway.picker:
            (folder / "picker.json").write_text(json.dumps(launch.picker_config(gateway)))
            picker = PickerProcess(
                launch.picker_argv(folder / "picker.json"), folder / "picker.log"
            )
            picker.start()
            stack.callback(picker.kill)
        stack.enter_context(_envoy(config or envoy.bootstrap(gateway), folder))
        until(lambda: is_ready(gateway))
        yield picker


@contextmanager
def running_gateway(
    engines: Engines,
    folder: Path,
    *,
    picker: bool = False,
    sealed: bool = False,
    broken: Mutation | None = None,
) -> Iterator[Bench]:
    """Starts the processes, waits until every engine is in rotation, and stops them."""
    gateway = gateway_for(engines, folder, picker, sealed)
    config = envoy.bootstrap(gateway)
    if broken:
        broken(config)
    with started(gateway, folder, config) as picker_process:
        yield Bench(
            base_url=f"http://127.0.0.1:{gateway.port}",
            key=KEY,
            adapter="lora",
            engines=engines,
            gateway=gateway,
            folder=folder,
            picker_process=picker_process,
        )


def is_ready(gateway: Gateway) -> bool:
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    try:
        if httpx.get(f"{admin}/ready").status_code != 200:
            return False
        stats = httpx.get(f"{admin}/stats", params={"filter": "membership_healthy"}).text
        if gateway.picker and "cluster.picker.membership_healthy: 1" not in stats:
            return False
        host, port = gateway.picker_health() or ("", 0)
        return not gateway.picker or httpx.get(f"http://{host}:{port}/health").is_success
    except httpx.TransportError:
        return False


def envoy_process(gateway: Gateway, folder: Path) -> AbstractContextManager[None]:
    """The real Envoy with a sound configuration."""
    return _envoy(envoy.bootstrap(gateway), folder)


@contextmanager
def _envoy(config: Json, folder: Path) -> Iterator[None]:
    (folder / "envoy.json").write_text(json.dumps(config))
    argv = launch.envoy_argv(folder / "envoy.json", concurrency=1)
    with (folder / "envoy.log").open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def until(probe: Callable[[], T | None], seconds: float = 20.0) -> T:
    """Polls until the probe says something true."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found
