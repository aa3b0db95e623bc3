"""A stack of three simulated workers behind the real gateway, picker and Prometheus, under load.

Every window of its rules is divided by `DIVISOR`: five minutes are fifteen seconds."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from ports import free_ports
from serving.programs import ROOT, changed_plan

from freehold.local import runtime
from freehold.local.compose import compose_simulated
from freehold.local.home import StackHome
from freehold.local.progress import Progress
from freehold.local.status import status
from freehold.local.tools import find_tools

DIVISOR = 20
RATE_INTERVAL = f"{5 * 60 // DIVISOR}s"
WORKERS = 3
_CLIENTS, _BURST_CLIENTS, _LONG_CLIENTS = 9, 120, 12
# What all prompts begin with, so that as much is found cached as the plan counts on.
_SHARED = "Answer in one sentence, and say where you know it from. " * 80


@dataclass
class Live:
    """The running stack and its load."""

    home: StackHome
    door: str
    prometheus: str
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    burst: threading.Event = field(default_factory=threading.Event)
    long: threading.Event = field(default_factory=threading.Event)

    def processes(self) -> dict[str, Any]:
        return {row.name: row for row in status(self.home.folder)}

    def send(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes()[name].pid, number)

    def fault(self, process: str, **faults: float | bool) -> None:
        url = f"{self.processes()[process].url}/simulator/faults"
        assert httpx.post(url, json=faults, timeout=10).status_code == 200

    def firing(self) -> set[str]:
        alerts = httpx.get(f"{self.prometheus}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def ask(self, client: httpx.Client, words: int, tokens: int, worker: str | None = None) -> None:
        prompt = _SHARED + " ".join(str(random.random()) for _ in range(words))
        body = {"model": "chat", "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {self.key}"}
        if worker:
            headers["x-freehold-worker"] = worker
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
        self._ask_during(self.burst, words=20, tokens=300)

    def long_client(self, worker: str) -> None:
        """To one worker, so that each gets as many."""
        self._ask_during(self.long, words=300, tokens=600, worker=worker)

    def _ask_during(
        self, event: threading.Event, words: int, tokens: int, worker: str | None = None
    ) -> None:
        with httpx.Client() as client:
            while not self.stop.is_set():
                if event.wait(1.0):
                    self.ask(client, words, tokens, worker)


@contextmanager
def running(root: Path) -> Iterator[Live]:
    """Under load for long enough that every rate has its window."""
    door, prometheus = 21080, free_ports(1)[0]
    chat = {"gpu_group": None, "placement": {"replicas": WORKERS}, "engine": {"max_num_seqs": 8}}
    plan = changed_plan(
        "small",
        {
            "pools": [
                {"name": "chat", **chat},
                {"name": "embed", "remove": True},
                {"name": "rerank", "remove": True},
            ],
            "budget": None,
            "cache": {"host_memory_gib": 8, "chunk_tokens": 256, "redis": {"memory_gib": 1}},
            "gateway": {"port": door},
            "engine_ports_from": 21101,
            "observability": {"prometheus": {"port": prometheus}},
        },
    )
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
        clients = [live.client] * _CLIENTS
        clients += [live.burst_client] * _BURST_CLIENTS
        clients += [partial(live.long_client, f"chat-{n % WORKERS}") for n in range(_LONG_CLIENTS)]
        threads = [threading.Thread(target=client, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(30)
        yield live
        live.stop.set()
    finally:
        runtime.down(home.folder)
