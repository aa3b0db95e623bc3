"""Faults in a running stack make exactly the expected alerts fire, and they resolve when it is well again.

A stack of three simulated workers behind the real gateway, picker and Prometheus, under load, with every
window divided by `DIVISOR`: five minutes are fifteen seconds. Takes about seven minutes; the table that
docs/observability.md shows is printed (`pytest -m e2e -s`).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from gateway.running import free_ports, until
from serving.programs import ROOT, changed_plan

from freehold.local import runtime
from freehold.local.compose import compose_simulated
from freehold.local.home import StackHome
from freehold.local.progress import Progress
from freehold.local.status import status
from freehold.local.tools import find_tools

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DIVISOR = 20
_CLIENTS, _BURST_CLIENTS = 9, 120
# What all prompts begin with, so that as much is found cached as the plan counts on.
_SHARED = "Answer in one sentence, and say where you know it from. " * 80
_SECONDS_TO_FIRE, _SECONDS_TO_RESOLVE = 90, 120


@dataclass
class Live:
    """The running stack and its load."""

    home: StackHome
    door: str
    prometheus: str
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    burst: threading.Event = field(default_factory=threading.Event)

    def processes(self) -> dict[str, Any]:
        return {row.name: row for row in status(self.home.folder)}

    def send(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes()[name].pid, number)

    def fault(self, worker: str, **faults: float | bool) -> None:
        url = f"{self.processes()[worker].url}/simulator/faults"
        assert httpx.post(url, json=faults, timeout=10).status_code == 200

    def firing(self) -> set[str]:
        alerts = httpx.get(f"{self.prometheus}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def ask(self, client: httpx.Client, words: int, tokens: int) -> None:
        prompt = _SHARED + " ".join(str(random.random()) for _ in range(words))
        body = {"model": "chat", "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {self.key}"}
        url = f"{self.door}/v1/chat/completions"
        try:
            client.post(url, json={**body, "max_tokens": tokens}, headers=headers, timeout=60)
        except httpx.TransportError:
            time.sleep(0.2)

    def client(self) -> None:
        with httpx.Client() as client:
            while not self.stop.is_set():
                self.ask(client, words=20, tokens=30)

    def burst_client(self) -> None:
        with httpx.Client() as client:
            while not self.stop.is_set():
                if self.burst.wait(1.0):
                    self.ask(client, words=20, tokens=300)


@dataclass(frozen=True)
class Fault:
    name: str
    begin: Callable[[Live], None]
    end: Callable[[Live], None]
    alerts: frozenset[str]


def _everywhere(**faults: float | bool) -> Callable[[Live], None]:
    def change(live: Live) -> None:
        for index in range(3):
            live.fault(f"chat-{index}", **faults)

    return change


FAULTS = (
    Fault(
        "a worker freezes",
        lambda live: live.send("chat-1", signal.SIGSTOP),
        lambda live: live.send("chat-1", signal.SIGCONT),
        frozenset({"WorkerDown"}),
    ),
    Fault(
        "a worker is three times as slow",
        lambda live: live.fault("chat-0", slow=3.0),
        lambda live: live.fault("chat-0", slow=1.0),
        frozenset({"OneSlowWorker"}),
    ),
    Fault(
        "every third answer is an error",
        _everywhere(error_rate=0.33),
        _everywhere(error_rate=0.0),
        frozenset({"ErrorBudgetBurnsFast", "GatewayErrors"}),
    ),
    Fault(
        "the cache server freezes",
        lambda live: live.send("cache", signal.SIGSTOP),
        lambda live: live.send("cache", signal.SIGCONT),
        frozenset({"CacheServerDown"}),
    ),
    Fault(
        "the picker freezes",
        lambda live: live.send("picker", signal.SIGSTOP),
        lambda live: live.send("picker", signal.SIGCONT),
        frozenset({"PickerAway", "TargetDown"}),
    ),
    Fault(
        "many more ask at once",
        lambda live: live.burst.set(),
        lambda live: live.burst.clear(),
        frozenset({"QueueGrows"}),
    ),
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    door, prometheus = 21080, free_ports(1)[0]
    chat = {"gpu_group": None, "placement": {"replicas": 3}, "engine": {"max_num_seqs": 8}}
    plan = changed_plan(
        "small",
        {
            "pools": [
                {"name": "chat", **chat},
                {"name": "embed", "remove": True},
                {"name": "rerank", "remove": True},
            ],
            "budget": None,
            "cache": {"host_memory_gib": 8, "chunk_tokens": 256},
            "gateway": {"port": door},
            "engine_ports_from": 21101,
            "observability": {"prometheus": {"port": prometheus}},
        },
    )
    root = tmp_path_factory.mktemp("faults")
    (root / ".freehold").mkdir()
    (root / ".freehold" / "tools").symlink_to(ROOT / ".freehold" / "tools")
    home = StackHome.of(root, "small")
    home.prepare()
    tools = find_tools(["prometheus"], home.tools, print)
    try:
        with Progress() as progress:
            specs = compose_simulated(plan, tools, home, window_divisor=DIVISOR)
            runtime.apply(specs, home.folder, progress)
        live = Live(home, f"http://127.0.0.1:{door}", f"http://127.0.0.1:{prometheus}", "")
        live.key = home.first_key()
        clients = [live.client] * _CLIENTS + [live.burst_client] * _BURST_CLIENTS
        threads = [threading.Thread(target=client, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(30)  # until every rate has its window
        yield live
        live.stop.set()
    finally:
        runtime.down(home.folder)


def test_nothing_fires_while_all_is_well(live: Live) -> None:
    assert live.firing() == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_makes_its_alerts_fire_and_no_others(live: Live, fault: Fault) -> None:
    until(lambda: live.firing() == set(), seconds=_SECONDS_TO_RESOLVE)
    fault.begin(live)
    began, seen, fired = time.monotonic(), set[str](), 0.0
    try:
        while time.monotonic() - began < _SECONDS_TO_FIRE and not fired:
            seen |= live.firing()
            fired = time.monotonic() - began if fault.alerts <= seen else 0.0
            time.sleep(0.5)
        time.sleep(5)
        seen |= live.firing()
    finally:
        fault.end(live)
    ended = time.monotonic()
    assert seen == fault.alerts
    until(lambda: live.firing() == set(), seconds=_SECONDS_TO_RESOLVE)
    resolved = time.monotonic() - ended
    names = ", ".join(sorted(fault.alerts))
    print(f"\n| {fault.name} | {names} | {fired:.0f} s | {resolved:.0f} s |")
