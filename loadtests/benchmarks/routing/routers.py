"""What stands between clients and workers: started for one run, with its processes in reach."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path

import httpx
import psutil

from freehold.gateway import envoy, launch
from freehold.gateway.model import (
    Address,
    ApiKey,
    Gateway,
    Policy,
    Pool,
    Role,
    Worker,
    join_address,
)
from freehold.gateway.names import SESSION
from freehold.gateway.picker import policy
from freehold.gateway.picker.prompt import prompt_of
from freehold.load.client import Call, StreamingClient
from freehold.load.record import RequestRecord

from ..processes import running, until
from .engine import HOST
from .workloads import Workload

_LOG = "router.log"
_ROLES: dict[str, Role] = {"embed": "embed", "rerank": "rerank"}
# Not the ports of engines (run.py).
_DOOR, _METRICS = 17_000, 17_030
# After the first door.
_ADMIN, _PICKER, _PICKER_HTTP, _STANDBY = 10, 20, 21, 22


@dataclass(frozen=True)
class Setting:
    """What a router is put in front of."""

    workers: tuple[Address, ...]
    workload: Workload
    folder: Path
    tenants: int = 1
    sealed: bool = False
    limits: tuple[int | None, ...] = ()
    """Requests a minute of each tenant; none where it ends."""
    first_port: int = _DOOR
    """Of the 24 that Freehold's gateways and pickers take."""

    def by_model(self) -> dict[str, tuple[Address, ...]]:
        """The workers that serve each model of the workload."""
        found, first = {}, 0
        for model, share in self.workload.models:
            after = first + max(1, round(share * len(self.workers)))
            found[model] = self.workers[first:after]
            first = after
        return found


@dataclass
class Door:
    """Where clients knock. `processes` are what the router costs."""

    send: Callable[[Call, int], RequestRecord]
    """A call, and the place of its conversation in the workload."""
    processes: list[psutil.Process] = field(default_factory=list)


@dataclass(frozen=True)
class Router:
    name: str
    open: Callable[[Setting], AbstractContextManager[Door]]
    many_models: bool = False
    """Sends each request to the workers of its model."""


def freehold(
    policy: Policy, *, sessions: bool = False, python: bool = False, standby: bool = False
) -> Router:
    """With the picker that has been built (`make picker`), or the one in Python. The first of its processes
    is the picker, the last its standby."""

    def picker(stack: ExitStack, setting: Setting, gateway: Gateway) -> psutil.Process:
        assert gateway.picker
        path = setting.folder / f"picker-{gateway.picker[1]}.json"
        path.write_text(json.dumps(launch.picker_config(gateway)))
        return stack.enter_context(_beside(setting, launch.picker_argv(path, python=python)))

    @contextmanager
    def opened(setting: Setting) -> Iterator[Door]:
        gateway = _gateway(setting, policy)
        second = (HOST, setting.first_port + _STANDBY) if standby else None
        gateway = dataclasses.replace(gateway, picker_standby=second)
        with ExitStack() as stack:
            processes = [picker(stack, setting, gateway)]
            ports = range(gateway.port, gateway.port + setting.workload.gateways)
            for place, port in enumerate(ports):
                admin = gateway.admin_port + place
                replica = dataclasses.replace(gateway, port=port, admin_port=admin)
                config = setting.folder / f"envoy-{place}.json"
                config.write_text(json.dumps(envoy.bootstrap(replica)))
                argv = launch.envoy_argv(config)
                processes.append(stack.enter_context(_beside(setting, argv)))
                until(lambda port=replica.admin_port: _ready(gateway, port), setting.folder / _LOG)
            if second:
                alone = dataclasses.replace(
                    gateway, picker=second, picker_http=(HOST, second[1] + 1), picker_standby=None
                )
                processes.append(picker(stack, setting, alone))
            keys = [key.secret for key in gateway.keys]
            yield Door(_through(ports, keys, sessions), processes)

    name = f"freehold {policy}{', picker in Python' if python else ''}"
    return Router(name, opened, many_models=True)


def _gateway(setting: Setting, policy: Policy) -> Gateway:
    pools = []
    for model, workers in setting.by_model().items():
        named = tuple(Worker(f"{model}-{n}", *worker) for n, worker in enumerate(workers))
        pools.append(Pool(model, _ROLES.get(model, "generate"), (model,), named, policy))
    first = setting.first_port
    return Gateway(
        port=first,
        admin_port=first + _ADMIN,
        pools=tuple(pools),
        keys=tuple(
            ApiKey(f"key-{n}", f"tenant-{n}", requests_per_minute=limit)
            for n, limit in zip(
                range(setting.tenants), chain(setting.limits, repeat(None)), strict=False
            )
        ),
        picker=(HOST, first + _PICKER),
        picker_http=(HOST, first + _PICKER_HTTP),
        sealed=setting.sealed,
        access_log="/dev/null",
    )


def _ready(gateway: Gateway, admin_port: int) -> bool:
    """Envoy serves, the picker answers, and every worker is in."""
    stats = httpx.get(f"http://{HOST}:{admin_port}/stats", params={"filter": "membership_healthy"})
    healthy = dict(line.split(": ") for line in stats.text.splitlines())
    wanted = {
        f"cluster.{pool.name}.membership_healthy": len(pool.workers) for pool in gateway.pools
    }
    wanted["cluster.picker.membership_healthy"] = 1
    return all(int(healthy.get(name, 0)) == count for name, count in wanted.items())


def vllm_router(policy: str, *options: str, name: str = "", sessions: bool = False) -> Router:
    """vLLM's own router (Rust), as it comes but for the options."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[Door]:
        binary = Path(sys.executable).with_name("vllm-router")
        argv = [str(binary), "--host", HOST, "--port", "{port}", "--policy", policy]
        argv += ["--prometheus-host", HOST, "--prometheus-port", str(_METRICS), *options]
        argv += ["--log-level", "warning", "--worker-urls", "{workers}"]
        with _outsider(argv, setting, sessions) as door:
            yield door

    return Router(name or f"vllm-router {policy}", opened)


def outsider(name: str, command: str) -> Router:
    """Any router by its command line: `{port}` and `{workers}` (or `{workers,}`, with commas) are put in."""
    return Router(name, lambda setting: _outsider(shlex.split(command), setting, sessions=True))


@contextmanager
def _outsider(argv: Sequence[str], setting: Setting, sessions: bool) -> Iterator[Door]:
    urls = [f"http://{join_address(*worker)}" for worker in setting.workers]
    with ExitStack() as stack:
        ports = range(_DOOR, _DOOR + setting.workload.gateways)
        processes = []
        for place, port in enumerate(ports):
            filled = [*_filled(argv, port, urls)]
            if place and str(_METRICS) in filled:
                filled[filled.index(str(_METRICS))] = str(_METRICS + place)
            processes.append(stack.enter_context(_beside(setting, filled)))
            health = f"http://{HOST}:{port}/health"
            until(lambda url=health: httpx.get(url).is_success, setting.folder / _LOG)
        yield Door(_through(ports, [None], sessions), processes)


def _filled(argv: Sequence[str], port: int, urls: Sequence[str]) -> Iterator[str]:
    for argument in argv:
        if argument == "{workers}":
            yield from urls
        else:
            yield argument.replace("{port}", str(port)).replace("{workers,}", ",".join(urls))


def at_url(name: str, url: str, key: str | None = None) -> Router:
    """One that runs already, in front of the same workers; its processes are not seen."""

    @contextmanager
    def opened(_: Setting) -> Iterator[Door]:
        client = StreamingClient(url, key)
        yield Door(lambda call, _: client.send(_with_session(call)))

    return Router(name, opened)


def in_the_client(
    name: str, choose: Callable[[list[policy.Worker], Call], policy.Worker]
) -> Router:
    """No router at all: each client picks the worker itself and speaks to it. What a policy can do."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[Door]:
        fleets = {
            model: [
                policy.Worker(model, join_address(*each), join_address(*each)) for each in there
            ]
            for model, there in setting.by_model().items()
        }
        clients = {
            worker.address: StreamingClient(f"http://{worker.address}", None)
            for fleet in fleets.values()
            for worker in fleet
        }

        def send(call: Call, _: int) -> RequestRecord:
            worker = choose(fleets[call.model], call)
            worker.in_flight += 1
            try:
                return clients[worker.address].send(call)
            finally:
                worker.in_flight -= 1

        yield Door(send)

    return Router(name, opened, many_models=True)


def _by_prefix(workers: list[policy.Worker], call: Call) -> policy.Worker:
    prompt = prompt_of(call.body, call.model)
    worker = policy.by_prefix(workers, prompt, replicas=1).worker
    worker.index.add(prompt.chain)
    return worker


def _by_turn(workers: list[policy.Worker], _: Call) -> policy.Worker:
    workers.append(workers.pop(0))
    return workers[-1]


ALL = (
    in_the_client("no router, prefix", _by_prefix),
    in_the_client("no router, by turn", _by_turn),
    freehold("prefix"),
    freehold("session", sessions=True),
    freehold("least_request"),
    freehold("round_robin"),
    vllm_router("round_robin"),
    vllm_router("random"),
    vllm_router("power_of_two"),
    vllm_router("consistent_hash", sessions=True),
    vllm_router("sticky_least_loaded", sessions=True),
    vllm_router("cache_aware"),
    # The better setting for few workers, found 2026-11-23: as it comes the bound never acts.
    vllm_router(
        "cache_aware",
        *("--balance-abs-threshold", "4", "--balance-rel-threshold", "1.2"),
        name="vllm-router cache_aware 4/1.2",
    ),
)


def _through(
    ports: Sequence[int], keys: Sequence[str | None], sessions: bool
) -> Callable[[Call, int], RequestRecord]:
    """Conversations by tenant, requests by turn over the replicas of the router."""
    clients = [[StreamingClient(f"http://{HOST}:{port}", key) for port in ports] for key in keys]
    sent = 0

    def send(call: Call, place: int) -> RequestRecord:
        nonlocal sent
        sent += 1
        of_tenant = clients[place % len(clients)]
        return of_tenant[sent % len(ports)].send(_with_session(call) if sessions else call)

    return send


def _with_session(call: Call) -> Call:
    return dataclasses.replace(call, headers={**call.headers, SESSION: call.session or ""})


def _beside(setting: Setting, argv: Sequence[str]) -> AbstractContextManager[psutil.Process]:
    return running(argv, setting.folder / _LOG, within=setting.folder)
