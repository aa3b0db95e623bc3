"""Stand-ins for engines in which nothing counts but routing: many workers in one process.

    python -m loadtests.benchmarks.routing.engine --workers 4 --first-port 17100

A worker reads one prompt at a time, at a fixed speed, but for the beginning that its prefix cache holds;
then it writes a token every so often, beside others. The simulated engine (`freehold.simulator`) is closer to
vLLM: there the steps of a batch depend on one another, and a router's part in a latency is harder to see.
These are the workers that Freehold's policy and its peers were first measured with (2026-11-23), so figures
compare.

The port before the workers' own takes orders: `POST /reset` drops caches and counters, `GET /counters` tells.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import uvloop

from freehold.simulator import tokens
from freehold.simulator.blocks import chain_of, root_of
from freehold.simulator.http import Connection, Exchange

HOST = "127.0.0.1"
# As measured on 2026-11-23.
BLOCK_TOKENS = 16
CACHE_BLOCKS = 4096
READ_TOKENS_PER_SECOND = 16_000
TOKEN_SECONDS = 0.020
# The same of simulated engines, for the benchmarks that have these (a scenario's `timing`).
SIMULATED = {
    "step_seconds": TOKEN_SECONDS,
    "sequence_seconds": 0.0,
    "token_seconds": 1 / READ_TOKENS_PER_SECOND,
}
SEATS = 16
"""Requests that run at once; more wait."""
OUTPUT_TOKENS = 12

_WORD = {
    "choices": [{"index": 0, "delta": {"content": "word "}}],
    "object": "chat.completion.chunk",
}


@dataclass
class Counters:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    renders: int = 0


class BlockCache:
    """The least recently used blocks go first, a prompt's last block before its first."""

    def __init__(self, blocks: int) -> None:
        self._room = blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def found(self, chain: list[int]) -> int:
        """Blocks from the beginning that are there."""
        return next((n for n, block in enumerate(chain) if block not in self._blocks), len(chain))

    def add(self, chain: list[int]) -> None:
        for block in reversed(chain):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        self._blocks.clear()


@dataclass
class Worker:
    port: int
    cache: BlockCache
    counters: Counters = field(default_factory=Counters)
    slowness: float = 1.0
    _seats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SEATS))
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _connections: set[Connection] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def come(self) -> None:
        loop = asyncio.get_running_loop()
        make = lambda: Connection(self._handle, self._connections)  # noqa: E731 - a protocol factory
        self._server = await loop.create_server(make, HOST, self.port)

    def go(self) -> None:
        """As if killed: its connections break off, its cache is lost."""
        if self._server:
            self._server.close()
        for connection in [*self._connections]:
            connection.abort()
        self.cache.clear()

    def _handle(self, exchange: Exchange) -> None:
        match exchange.path:
            case "/v1/chat/completions":
                self._start(exchange, self._chat(exchange))
            case "/v1/embeddings" | "/v1/rerank":
                self._start(exchange, self._read_at_once(exchange))
            case "/v1/chat/completions/render":
                self.counters.renders += 1
                text = prompt_of(orjson.loads(exchange.body))
                # vllm-router takes no number above 32 bits, which an incomplete last token has.
                numbers = [number & 0xFFFFFFFF for number in tokens.encode(text)]
                exchange.respond(200, orjson.dumps({"token_ids": numbers}))
            case "/v1/completions":  # at once: for what a router adds
                _complete(exchange)
            case "/v1/models":
                data = [{"id": "chat", "object": "model", "created": 0, "owned_by": "benchmark"}]
                exchange.respond(200, orjson.dumps({"object": "list", "data": data}))
            case "/metrics":
                exchange.respond(200, self._metrics(), "text/plain; version=0.0.4")
            case _:
                exchange.respond(200, b"{}")

    def _start(self, exchange: Exchange, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        exchange.gone = lambda: _stop(task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _chat(self, exchange: Exchange) -> None:
        body = orjson.loads(exchange.body)
        self.counters.requests += 1
        async with self._seats:
            prompt, cached = await self._read(body)
            wanted = body.get("max_tokens", OUTPUT_TOKENS)
            exchange.stream()
            for place in range(wanted):
                if place:
                    await asyncio.sleep(TOKEN_SECONDS * self.slowness)
                exchange.send(b"data: %b\n\n" % orjson.dumps({"model": body["model"], **_WORD}))
                self.counters.output_tokens += 1
            exchange.send(_usage(prompt, wanted, cached))
            exchange.end()

    async def _read(self, body: dict[str, Any]) -> tuple[int, int]:
        """Reads the prompt; how long it is, and how much of it was known."""
        text = prompt_of(body)
        length, chain = tokens.count(text), block_chain(text, body.get("cache_salt", ""))
        async with self._reading:
            known = self.cache.found(chain)
            cached = min(known * BLOCK_TOKENS, length - 1)
            await asyncio.sleep((length - cached) / READ_TOKENS_PER_SECOND * self.slowness)
            self.cache.add(chain)
        self.counters.prompt_tokens += length
        self.counters.cached_tokens += cached
        return length, cached

    async def _read_at_once(self, exchange: Exchange) -> None:
        """Texts of which nothing is kept: to be embedded, or each document beside the question."""
        body = orjson.loads(exchange.body)
        texts = body.get("documents") or [body["input"]]
        length = sum(tokens.count(f"{body.get('query', '')}{text}".encode()) for text in texts)
        self.counters.requests += 1
        async with self._reading:
            await asyncio.sleep(length / READ_TOKENS_PER_SECOND * self.slowness)
        answer = {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0]}],
        }
        usage = {"prompt_tokens": length, "total_tokens": length}
        exchange.respond(200, orjson.dumps({**answer, "usage": usage}))

    def _metrics(self) -> bytes:
        """By vLLM's names, as measure.py reads them of real workers."""
        names = {
            "vllm:prefix_cache_queries_total": self.counters.prompt_tokens,
            "vllm:prefix_cache_hits_total": self.counters.cached_tokens,
            "vllm:request_success_total": self.counters.requests,
            "vllm:generation_tokens_total": self.counters.output_tokens,
        }
        return "".join(f"{name} {value}\n" for name, value in names.items()).encode()


def _complete(exchange: Exchange) -> None:
    """One word. Only a picker's own small question asks for a stream."""
    word = {"choices": [{"index": 0, "text": "word "}]}
    if len(exchange.body) < 1024 and orjson.loads(exchange.body).get("stream"):
        exchange.stream()
        exchange.send(b"data: %b\n\n" % orjson.dumps(word))
        exchange.send(_usage(1, 1, 0))
        exchange.end()
    else:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        exchange.respond(200, orjson.dumps({**word, "usage": usage}))


def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()


def prompt_of(body: dict[str, Any]) -> bytes:
    """What a chat template makes of the messages."""
    return "".join(f"<{m['role']}>{m['content']}" for m in body.get("messages", [])).encode()


def block_chain(text: bytes, salt: str = "") -> list[int]:
    return chain_of(text, BLOCK_TOKENS * tokens.WIDTH, root_of(salt, ""))


def _usage(prompt: int, output: int, cached: int) -> bytes:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return b"data: %b\n\ndata: [DONE]\n\n" % orjson.dumps({"choices": [], "usage": usage})


class Fleet:
    """All workers, and the orders they take between and during runs."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._resetting: asyncio.Task[None] | None = None
        self._coming_and_going: asyncio.Task[None] | None = None
        self._away: Worker | None = None

    def handle(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "POST", "/reset":
                self._resetting = asyncio.ensure_future(self._reset(exchange))
            case "GET", "/counters":
                told = [asdict(worker.counters) for worker in self.workers]
                exchange.respond(200, orjson.dumps(told))
            case _:
                exchange.respond(404, b"{}")

    async def _reset(self, exchange: Exchange) -> None:
        """`slow`: how much slower each worker is, by its place; `away_seconds`: every so often the next
        worker goes away for half that time."""
        order = json.loads(exchange.body or b"{}")
        if self._coming_and_going:
            self._coming_and_going.cancel()
        if self._away:
            await self._away.come()
        self._away = self._coming_and_going = None
        for place, worker in enumerate(self.workers):
            worker.cache.clear()
            worker.counters = Counters()
            worker.slowness = order.get("slow", {}).get(str(place), 1.0)
        if seconds := order.get("away_seconds"):
            self._coming_and_going = asyncio.ensure_future(self._come_and_go(seconds))
        exchange.respond(200, b"{}")

    async def _come_and_go(self, seconds: float) -> None:
        while True:
            for worker in self.workers:
                await asyncio.sleep(seconds / 2)
                worker.go()
                self._away = worker
                await asyncio.sleep(seconds / 2)
                await worker.come()
                self._away = None


async def serve(count: int, first_port: int, blocks: int) -> None:
    workers = [Worker(first_port + 1 + place, BlockCache(blocks)) for place in range(count)]
    for worker in workers:
        await worker.come()
    fleet, orders = Fleet(workers), set[Connection]()
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(fleet.handle, orders), HOST, first_port)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--first-port", type=int, default=17_100)
    parser.add_argument("--blocks", type=int, default=CACHE_BLOCKS, help="of a worker's cache")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(options.workers, options.first_port, options.blocks))


if __name__ == "__main__":
    main()
