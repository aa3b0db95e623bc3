"""Simulated engines before the real gateway and picker, and an engine whose answers do not end."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from freehold.gateway import envoy, launch
from freehold.gateway.model import ApiKey, Gateway, Pool, Role, Worker

from ..processes import running, until
from ..routing.engine import SIMULATED
from .engine import HOST

KEY, OTHER_KEY = "key-of-the-well-behaved", "key-of-the-others"
# Beside the ports of the routing benchmark and of the resilience benchmark.
FIRST_PORT = 17_300
WORKERS, SEATS = 4, 8
POOLED_SEATS = 4


@dataclass(frozen=True)
class Site:
    gateway: Gateway
    stub: int
    """The port of the engine whose answers do not end."""
    envoy: psutil.Process
    picker: psutil.Process

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.gateway.port}"

    def stub_counters(self) -> dict[str, int]:
        return httpx.get(f"http://{HOST}:{self.stub}/counters", timeout=60).json()

    def in_flight(self) -> int:
        """Requests that the picker believes to be under way."""
        host, port = self.gateway.picker_health() or ("", 0)
        text = httpx.get(f"http://{host}:{port}/metrics").text
        lines = [
            line for line in text.splitlines() if line.startswith("freehold_picker_in_flight{")
        ]
        return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines))

    def healthy(self) -> int:
        """Workers and pickers that Envoy believes to be well."""
        admin = f"http://{HOST}:{self.gateway.admin_port}/stats"
        answer = httpx.get(admin, params={"filter": r"^cluster\..*\.membership_healthy$"})
        return sum(int(line.rsplit(": ", 1)[1]) for line in answer.text.splitlines())


@contextmanager
def site(folder: Path, first_port: int = FIRST_PORT) -> Iterator[Site]:
    ports = itertools.count(first_port)
    stub = next(ports)
    pools = (
        _pool("chat", "generate", WORKERS, ports),
        _pool("embed", "embed", 1, ports),
        _pool("rerank", "rerank", 1, ports),
        Pool("endless", "generate", ("endless",), (Worker("endless-0", HOST, stub),)),
    )
    gateway = Gateway(
        port=next(ports),
        admin_port=next(ports),
        pools=pools,
        keys=(ApiKey(KEY, "well-behaved"), ApiKey(OTHER_KEY, "others")),
        picker=(HOST, next(ports)),
        picker_http=(HOST, next(ports)),
        access_log="/dev/null",
    )
    picker, config = folder / "picker.json", folder / "envoy.json"
    picker.write_text(json.dumps(launch.picker_config(gateway)))
    config.write_text(json.dumps(envoy.bootstrap(gateway)))
    engine = [sys.executable, "-m", "loadtests.benchmarks.soak.engine", str(stub)]
    log = folder / "site.log"
    with ExitStack() as stack:
        for argv in (_simulated(pools[:-1], folder), engine):
            stack.enter_context(running(argv, log))
        made = Site(
            gateway=gateway,
            stub=stub,
            picker=stack.enter_context(running(launch.picker_argv(picker), log)),
            envoy=stack.enter_context(running(launch.envoy_argv(config), log)),
        )
        well = sum(len(pool.workers) for pool in pools) + 1  # and the picker
        until(lambda: made.healthy() == well, log)
        yield made


def _pool(name: str, role: Role, count: int, ports: Iterator[int]) -> Pool:
    workers = tuple(Worker(f"{name}-{n}", HOST, next(ports)) for n in range(count))
    return Pool(name, role, (name,), workers)


def _simulated(pools: Sequence[Pool], folder: Path) -> list[str]:
    """All of them in one process."""
    scenario = folder / "scenario.json"
    scenario.write_text(json.dumps({"timing": SIMULATED}))
    kinds = {
        "generate": ["--max-num-seqs", str(SEATS)],
        "embed": ["--runner", "pooling", "--max-num-seqs", str(POOLED_SEATS)],
        "rerank": [
            "--runner",
            "pooling",
            "--convert",
            "classify",
            "--max-num-seqs",
            str(POOLED_SEATS),
        ],
    }
    replicas = [
        {
            "arguments": [
                *("--model", "m", "--served-model-name", pool.name),
                *("--host", worker.host, "--port", str(worker.port), *kinds[pool.role]),
            ],
            "scenario": str(scenario),
        }
        for pool in pools
        for worker in pool.workers
    ]
    config = folder / "engines.json"
    config.write_text(json.dumps(replicas))
    return [sys.executable, "-m", "freehold.simulator.fleet", str(config)]
