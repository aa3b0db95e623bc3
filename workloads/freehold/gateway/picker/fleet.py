"""The workers as they are now: found by name, checked for health, counted."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from freehold.gateway.model import join_address

from .background import Background
from .config import PoolConfig, WorkerSource
from .http import fetch
from .policy import Worker

# As in the Envoy configuration (clusters): names are looked up anew every 5 s; a refused connection is
# enough to leave a worker out, silence must last three checks of 5 s.
_LOOKUP_SECONDS = 5.0
_CHECK_SECONDS = 1.0
_SILENT_CHECKS = 3


class Fleet(Background):
    """Workers by pool, and by the address that Envoy reports. An async context: it keeps itself up to
    date while entered."""

    def __init__(self, pools: Sequence[PoolConfig]) -> None:
        super().__init__()
        self._pools = {pool.name: pool for pool in pools}
        self._workers: dict[str, dict[str, Worker]] = {pool.name: {} for pool in pools}
        self._checks: dict[Worker, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Fleet:
        await self.look_up()
        self._start(self._keep_looking_up())
        return self

    def workers(self) -> list[Worker]:
        return [worker for pool in self._workers.values() for worker in pool.values()]

    def healthy(self, pool: str) -> list[Worker]:
        return [worker for worker in self._workers[pool].values() if worker.up]

    def up(self, pool: str) -> list[Worker]:
        """The workers to pick from."""
        return [worker for worker in self.healthy(pool) if not worker.left_out]

    def leaves_out(self, pool: str) -> bool:
        return any(worker.left_out for worker in self._workers[pool].values())

    def at(self, pool: str, address: str) -> Worker | None:
        return self._workers.get(pool, {}).get(address)

    async def look_up(self) -> None:
        """Finds every pool's workers. A name that cannot be resolved leaves its pool as it was."""
        for pool in self._pools.values():
            try:
                found = [await _addresses(source) for source in pool.sources]
            except OSError:
                continue
            names = {
                address: source.name or address
                for source, addresses in zip(pool.sources, found, strict=True)
                for address in addresses
            }
            self._update(pool.name, names)

    def _update(self, pool: str, names: dict[str, str]) -> None:
        known = self._workers[pool]
        for address in known.keys() - names.keys():
            self._checks.pop(known.pop(address)).cancel()
        for address in names.keys() - known.keys():
            worker = known[address] = Worker(pool, names[address], address)
            path = self._pools[pool].health_path
            self._checks[worker] = self._start(_keep_checking(worker, path))

    async def _keep_looking_up(self) -> None:
        while True:
            await asyncio.sleep(_LOOKUP_SECONDS)
            await self.look_up()


async def _addresses(source: WorkerSource) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(source.host, source.port, type=socket.SOCK_STREAM)
    # Envoy prefers IPv4 as well.
    family = socket.AF_INET if any(f[0] == socket.AF_INET for f in found) else socket.AF_INET6
    hosts = {f[4][0] for f in found if f[0] == family}
    return [join_address(str(host), source.port) for host in hosts]


async def _keep_checking(worker: Worker, path: str) -> None:
    silent = 0
    while True:
        try:
            status, _ = await fetch("GET", worker.address, path)
            answered = status == 200
            silent = 0
        except TimeoutError:
            silent += 1
            answered = silent < _SILENT_CHECKS and worker.up
        except (OSError, ValueError):
            answered = False
        if worker.up and not answered:
            worker.index.clear()  # what comes back is a new engine with an empty cache
        worker.up = answered
        await asyncio.sleep(_CHECK_SECONDS)
