"""Replicas in a thread of the test process, each on a port of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvloop

from freehold.simulator.replica import Replica
from freehold.simulator.settings import ENVIRONMENT, settings_of

T = TypeVar("T")

# Steps of 2 ms: fast, and long enough to be told from no time at all.
QUICK = {"step_seconds": 0.002, "sequence_seconds": 0.0, "token_seconds": 0.000002}


class Fleet:
    """Starts replicas and speaks to their loop from the test's thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = uvloop.new_event_loop()
        self._replicas: list[Replica] = []
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def start(
        self, *arguments: str, environment: dict[str, str] | None = None, **scenario: Any
    ) -> Server:
        """A replica of vLLM's command line; the rest is its scenario file."""
        path = self._folder / f"scenario-{len(self._replicas)}.json"
        path.write_text(json.dumps({"timing": QUICK, **scenario}))
        arguments = ("--model", "test/model", "--served-model-name", "chat", *arguments)
        named = {ENVIRONMENT: str(path), **(environment or {})}
        settings = replace(settings_of(arguments, named), port=0)
        replica = Replica(settings, crash=Replica.kill)
        self.run(replica.start())
        self._replicas.append(replica)
        return Server(self, replica)

    def close(self) -> None:
        async def kill_all() -> None:
            for replica in self._replicas:
                replica.kill()

        self.run(kill_all())
        self._loop.call_soon_threadsafe(self._loop.stop)


class Server(httpx.Client):
    """A replica as its clients see it."""

    def __init__(self, fleet: Fleet, replica: Replica) -> None:
        super().__init__(base_url=f"http://127.0.0.1:{replica.port}", timeout=20)
        self.fleet = fleet
        self.replica = replica

    def chat(self, content: str = "hello", **more: Any) -> httpx.Response:
        messages = [{"role": "user", "content": content}]
        return self.post("/v1/chat/completions", json={"messages": messages, **more})

    def metric(self, sample: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        total, found = 0.0, False
        for line in self.get("/metrics").text.splitlines():
            name, _, rest = line.partition("{")
            given, _, value = rest.rpartition("} ")
            if name == sample and all(f'{k}="{v}"' in given for k, v in labels.items()):
                total, found = total + float(value), True
        assert found, f"no sample {sample} {labels}"
        return total


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


Start = Callable[..., Server]


@pytest.fixture
def start(fleet: Fleet) -> Start:
    return fleet.start
