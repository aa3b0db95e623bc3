"""The shared KV cache, simulated: which chunks it holds, and what fetching them takes.

A server process stands where LMCache (and Redis behind it) would, on the same port; it keeps keys, not
values. A replica asks it on arrival how many leading chunks of a prompt it has, waits as long as their
bytes would take, and tells it what it has computed. A dead server is a miss, never an error.

    python -m freehold.simulator.shared_tier --port P --http-port H --chunk-size N --capacity-tokens N
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import struct
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import orjson

from .http import Connection, Exchange
from .scheduler import Limits
from .settings import SharedTier

_HEAD = struct.Struct("<cI")
_LOOKUP, _STORE = b"L", b"S"
_ANSWER = struct.Struct("<I")
_RETRY_SECONDS = 1.0


class Store:
    """Chunks by key, the least recently used go first."""

    def __init__(self, chunk_tokens: int, capacity_tokens: int, redis: bool = False) -> None:
        """`redis`: a part of it is Redis, which may go away (`redis_away`)."""
        self.chunk_tokens = chunk_tokens
        self.redis = redis
        self.redis_away = False
        """Nothing arrives and nothing is found: as for workers that share by Redis alone."""
        self.slow_seconds = 0.0
        """That each look into it takes, one after the other for each worker."""
        self.sent = self.arrived = 0
        self._capacity = max(1, capacity_tokens // chunk_tokens)
        self._chunks: OrderedDict[int, None] = OrderedDict()
        self.lookups = self.asked = self.hits = self.evicted = 0

    def __len__(self) -> int:
        return len(self._chunks)

    def found(self, keys: Sequence[int]) -> int:
        """How many of these are there, from the first on."""
        self.lookups += 1
        self.asked += len(keys)
        if self.redis_away:
            return 0
        found = 0
        for key in keys:
            if key not in self._chunks:
                break
            self._chunks.move_to_end(key)
            found += 1
        self.hits += found
        return found

    def add(self, keys: Sequence[int]) -> None:
        self.sent += len(keys)
        if self.redis_away:
            return
        self.arrived += len(keys)
        for key in keys:
            self._chunks[key] = None
            self._chunks.move_to_end(key)
        while len(self._chunks) > self._capacity:
            self._chunks.popitem(last=False)
            self.evicted += 1

    def change(self, faults: Mapping[str, Any]) -> dict[str, Any]:
        """Its faults as they are then. Redis can be away only where there is one."""
        if self.redis:
            self.redis_away = bool(faults.get("redis_away", self.redis_away))
        self.slow_seconds = float(faults.get("slow_seconds", self.slow_seconds))
        return {"redis_away": self.redis_away, "slow_seconds": self.slow_seconds}

    def text(self) -> str:
        """Its counters, as Prometheus reads them."""
        values = {
            "chunks": (len(self), "gauge"),
            "lookups_total": (self.lookups, "counter"),
            "asked_chunks_total": (self.asked, "counter"),
            "hit_chunks_total": (self.hits, "counter"),
            "evicted_chunks_total": (self.evicted, "counter"),
        }
        lines = {f"freehold_simulated_tier_{name}": found for name, found in values.items()}
        if self.redis:  # by LMCache's own names: an alert compares the two
            stored = "lmcache_mp_l2_store_{}_objects_chunks_total"
            lines[stored.format("submitted")] = (self.sent, "counter")
            lines[stored.format("completed")] = (self.arrived, "counter")
        return "".join(
            f"# TYPE {name} {kind}\n{name} {value}\n" for name, (value, kind) in lines.items()
        )


async def serve(store: Store, host: str, port: int) -> asyncio.Server:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_ANSWER.pack(store.chunk_tokens))
            while True:
                kind, count = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                keys = struct.unpack(f"<{count}Q", await reader.readexactly(8 * count))
                if kind == _STORE:
                    store.add(keys)
                else:
                    if store.slow_seconds:
                        await asyncio.sleep(store.slow_seconds)
                    writer.write(_ANSWER.pack(store.found(keys)))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(connection, host, port)


class Tier(ABC):
    """What a replica asks of the KV cache behind its own."""

    source = "external_unspecified"
    """vLLM's word for where its tokens come from, in metrics."""

    def __init__(self, settings: SharedTier) -> None:
        self._tier = settings
        self._busy_until = 0.0

    def start(self) -> None:  # noqa: B027, a tier in the same process has nothing to connect
        pass

    def stop(self) -> None:  # noqa: B027
        pass

    @property
    def connected(self) -> bool:
        return True

    @abstractmethod
    async def found(self, chain: Sequence[int]) -> int:
        """How many tokens of a prompt it has, from the first on."""

    @abstractmethod
    def store(self, chain: Sequence[int]) -> None: ...

    def seconds(self, tokens: int) -> float:
        """How long from now so many tokens take to arrive: one transfer goes after the other."""
        now = monotonic()
        transfer = tokens * self._tier.bytes_per_token / (self._tier.gigabytes_per_second * 1e9)
        self._busy_until = max(self._busy_until, now) + transfer
        return self._tier.latency_seconds + self._busy_until - now


class HostMemory(Tier):
    """vLLM's native offloading: this worker's blocks in its host's memory, shared with nobody."""

    source = "host"

    def __init__(self, settings: SharedTier, limits: Limits) -> None:
        super().__init__(settings)
        capacity = settings.gib * 2**30 / settings.bytes_per_token
        self._store = Store(limits.block_size, int(capacity))

    async def found(self, chain: Sequence[int]) -> int:
        return self._store.found(chain) * self._store.chunk_tokens

    def store(self, chain: Sequence[int]) -> None:
        self._store.add(chain)


class Client(Tier):
    """One replica's connection to a server. Everything it cannot do is a miss."""

    def __init__(self, settings: SharedTier, address: tuple[str, int], limits: Limits) -> None:
        super().__init__(settings)
        self._address = address
        self._block = limits.block_size
        self._chunk_tokens = 0
        self._writer: asyncio.StreamWriter | None = None
        self._answers: deque[asyncio.Future[int]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._stay_connected())

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def found(self, chain: Sequence[int]) -> int:
        keys = self._keys(chain)
        if not keys or not self._send(_LOOKUP, keys):
            return 0
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        try:
            async with asyncio.timeout(self._tier.timeout_seconds):
                return await answer * self._chunk_tokens
        except (TimeoutError, ConnectionError):
            return 0

    def store(self, chain: Sequence[int]) -> None:
        if keys := self._keys(chain):
            self._send(_STORE, keys)

    def _keys(self, chain: Sequence[int]) -> Sequence[int]:
        blocks = self._chunk_tokens // self._block
        return chain[blocks - 1 :: blocks] if blocks else ()

    def _send(self, kind: bytes, keys: Sequence[int]) -> bool:
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(_HEAD.pack(kind, len(keys)) + struct.pack(f"<{len(keys)}Q", *keys))
        return True

    async def _stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    await self._read_answers(reader, writer)
                finally:
                    self._writer = None
                    writer.close()
                    for answer in self._answers:
                        if not answer.done():
                            answer.set_exception(ConnectionError())
                    self._answers.clear()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        (self._chunk_tokens,) = _ANSWER.unpack(await reader.readexactly(_ANSWER.size))
        self._writer = writer
        while True:
            (count,) = _ANSWER.unpack(await reader.readexactly(_ANSWER.size))
            answer = self._answers.popleft()
            if not answer.done():  # else it was given up
                answer.set_result(count)


def tier_of(settings: SharedTier | None, limits: Limits) -> Tier | None:
    if settings is None:
        return None
    if settings.address is None:
        return HostMemory(settings, limits)
    return Client(settings, settings.address, limits)


# --- The server's process -----------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(prog="freehold.simulator.shared_tier")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5570)
    parser.add_argument("--http-port", type=int, default=5571)
    parser.add_argument("--chunk-size", type=int, default=256, help="tokens a chunk")
    parser.add_argument("--capacity-tokens", type=int, default=1_000_000)
    parser.add_argument("--redis", action="store_true", help="a part of it is Redis")
    given = parser.parse_args()
    asyncio.run(_run(given))


async def _run(given: argparse.Namespace) -> None:
    store = Store(given.chunk_size, given.capacity_tokens, given.redis)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def handle(exchange: Exchange) -> None:
        if exchange.path == "/metrics":
            exchange.respond(200, store.text().encode(), "text/plain; version=0.0.4")
        elif exchange.path == "/simulator/faults":
            exchange.respond(200, orjson.dumps(store.change(orjson.loads(exchange.body))))
        else:
            exchange.respond(200, b'{"status":"healthy"}')

    connections: set[Connection] = set()
    await loop.create_server(lambda: Connection(handle, connections), given.host, given.http_port)
    server = await serve(store, given.host, given.port)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    main()
