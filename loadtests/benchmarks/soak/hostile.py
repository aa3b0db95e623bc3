"""The clients that the gateway must survive, in a process of their own.

    python -m loadtests.benchmarks.soak.hostile CASE PORT KEY COUNT

Says `ready` when all have begun; goes on until its standard input ends; then tells as JSON what they got.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from .engine import ENDLESS, HOST, SILENT

MIB = 2**20
_AT_ONCE = 100
"""Connections that are being opened."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Target:
    port: int
    key: str
    got: Counter[str] = field(default_factory=Counter)
    """What the clients were told, and how often."""
    slowest: dict[str, float] = field(default_factory=dict)
    """Seconds that the slowest of each took."""
    _opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def connect(self, receive_buffer: int | None = None) -> Streams:
        end = socket.socket()
        end.setblocking(False)
        if receive_buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        async with self._opening:
            await asyncio.get_running_loop().sock_connect(end, (HOST, self.port))
        return await asyncio.open_connection(sock=end, limit=4096)

    def head(self, *more: str, key: str | None = None) -> bytes:
        """Without the line that ends it."""
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            "host: gateway",
            f"authorization: Bearer {self.key if key is None else key}",
            "content-type: application/json",
            *more,
        ]
        return "".join(f"{line}\r\n" for line in lines).encode()

    def stream(self, what: str) -> bytes:
        message = {"role": "user", "content": what}
        body = json.dumps({"model": "endless", "messages": [message], "stream": True}).encode()
        return self.head(f"content-length: {len(body)}") + b"\r\n" + body

    def note(self, what: str, seconds: float | None = None) -> None:
        self.got[what] += 1
        if seconds is not None:
            self.slowest[what] = max(self.slowest.get(what, 0.0), seconds)


Client = Callable[[Target, int, asyncio.Event], Awaitable[None]]
"""A client by its number; it sets the event when it has begun."""


async def silent_stream(target: Target, _: int, begun: asyncio.Event) -> None:
    """Gets a token, and then waits for ever."""
    reader, writer = await target.connect()
    try:
        writer.write(target.stream(SILENT))
        await _first_event(target, reader)
        begun.set()
        await reader.read()
        target.note("ended by the gateway")
    finally:
        writer.close()


async def slow_reader(target: Target, _: int, begun: asyncio.Event) -> None:
    """Takes a byte a second of an answer without end."""
    reader, writer = await target.connect(receive_buffer=4096)
    try:
        writer.write(target.stream(ENDLESS))
        await _first_event(target, reader)
        begun.set()
        while await reader.read(1):
            await asyncio.sleep(1)
        target.note("ended by the gateway")
    finally:
        writer.close()


async def half_open(target: Target, number: int, begun: asyncio.Event) -> None:
    """Says nothing, or half of what it has to say, and waits."""
    halves = {
        "nothing": b"",
        "half a head": target.head(),
        "half a body": target.head("content-length: 1000") + b'\r\n{"model":',
        "half a chunk": target.head("transfer-encoding: chunked") + b'\r\n3e8\r\n{"model":',
    }
    said = [*halves][number % len(halves)]
    reader, writer = await target.connect()
    started = time.monotonic()
    try:
        writer.write(halves[said])
        begun.set()
        answer = await reader.read(4096)
        target.note(f"{said}: {_status(answer)}", time.monotonic() - started)
    finally:
        writer.close()


async def vanished(target: Target, _: int, begun: asyncio.Event) -> None:
    """Gets a token and is gone without a word, as a laptop that is shut. Linux can forget a connection so
    in its repair mode, for which the process needs CAP_NET_ADMIN."""
    end = socket.socket()
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(end, (HOST, target.port))
    await loop.sock_sendall(end, target.stream(SILENT))
    said = b""
    while b"data: " not in said:
        part = await loop.sock_recv(end, 4096)
        if not part:
            break
        said += part
    target.note("first token" if b"data: " in said else _status(said))
    tcp_repair = 19
    try:
        end.setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
        target.note("vanished")
    except PermissionError:
        target.note("may not vanish: needs CAP_NET_ADMIN")
    end.close()
    begun.set()


async def large_head(target: Target, number: int, begun: asyncio.Event) -> None:
    """Again and again a head that no gateway should take: one long line, or many short ones."""
    heads = {
        "300 KB in one header": target.head(f"x-long: {'x' * 300_000}") + b"\r\n",
        "10,000 headers": target.head(*(f"x-{n}: {n}" for n in range(10_000))) + b"\r\n",
        "200 headers": target.head(*(f"x-{n}: {n}" for n in range(200))) + b"\r\n",
    }
    what = [*heads][number % len(heads)]
    await _again(target, begun, what, lambda writer: _write(writer, heads[what]))


_PIECE = b"x" * (256 * 1024)


async def large_body(target: Target, number: int, begun: asyncio.Event) -> None:
    """Again and again a body above the limit: its length told or not, with a key or without."""
    size = 40 * MIB
    told, chunked = f"content-length: {size}", "transfer-encoding: chunked"
    heads = {
        "40 MiB, told": (target.head(told), _pieces),
        "40 MiB, in chunks": (target.head(chunked), _chunks),
        "40 MiB, no key": (target.head(told, key="none"), _pieces),
        "40 MiB in chunks, no key": (target.head(chunked, key="none"), _chunks),
    }
    what = [*heads][number % len(heads)]
    head, send = heads[what]

    async def body(writer: asyncio.StreamWriter) -> None:
        await _write(writer, head + b"\r\n")
        await send(writer, size)

    await _again(target, begun, what, body)


async def largest_body(target: Target, _: int, begun: asyncio.Event) -> None:
    """Again and again a chat just below the limit, for a model that there is."""
    text = b"x" * (31 * MIB)
    start = b'{"model": "endless", "max_tokens": 1, "messages": [{"role": "user", "content": "'
    end = b'"}]}'
    size = len(start) + len(text) + len(end)

    async def body(writer: asyncio.StreamWriter) -> None:
        await _write(writer, target.head(f"content-length: {size}") + b"\r\n" + start)
        await _write(writer, text)
        await _write(writer, end)

    await _again(target, begun, "31 MiB", body)


async def connection(target: Target, number: int, begun: asyncio.Event) -> None:
    """Three quarters are opened, say nothing and stay; the rest come without a key, again and again."""
    if number % 4:
        reader, writer = await target.connect()
        started = time.monotonic()
        begun.set()
        try:
            await reader.read(1)
            target.note("silent: closed", time.monotonic() - started)
        finally:
            writer.close()
    request = target.head("content-length: 2", key="none") + b"\r\n{}"
    await _again(target, begun, "no key", lambda writer: _write(writer, request), pause=1.0)


async def _again(
    target: Target,
    begun: asyncio.Event,
    what: str,
    send: Callable[[asyncio.StreamWriter], Awaitable[None]],
    pause: float = 0.0,
) -> None:
    """A connection for each try. What cannot be sent to its end is given up when the answer is there."""
    while True:
        started = time.monotonic()
        try:
            reader, writer = await target.connect()
        except OSError as error:
            target.note(f"{what}: {type(error).__name__}")
            await asyncio.sleep(1)
            continue
        begun.set()
        sending = asyncio.create_task(_until_refused(send, writer))
        try:
            answer = await reader.read(4096)
        except OSError:
            answer = b""
        finally:
            sending.cancel()
            writer.transport.abort()
        target.note(f"{what}: {_status(answer)}", time.monotonic() - started)
        await asyncio.sleep(pause)


async def _until_refused(
    send: Callable[[asyncio.StreamWriter], Awaitable[None]], writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError):
        await send(writer)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _pieces(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // len(_PIECE)):
        await _write(writer, _PIECE)


async def _chunks(writer: asyncio.StreamWriter, size: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (len(_PIECE), _PIECE)
    for _ in range(size // len(_PIECE)):
        await _write(writer, chunk)
    await _write(writer, b"0\r\n\r\n")


async def _first_event(target: Target, reader: asyncio.StreamReader) -> None:
    started = time.monotonic()
    line = first = await reader.readline()
    while line and not line.startswith(b"data: "):
        line = await reader.readline()
    said = "first token" if line else _status(first)
    target.note(said, time.monotonic() - started)


def _status(answer: bytes) -> str:
    return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.1 ") else "closed"


CASES: dict[str, tuple[Client, int]] = {
    "idle": (silent_stream, 5000),
    "readers": (slow_reader, 500),
    "halfopen": (half_open, 2000),
    "vanished": (vanished, 200),
    "headers": (large_head, 50),
    "bodies": (large_body, 50),
    "largest": (largest_body, 8),
    "connections": (connection, 8000),
}


async def main(case: str, port: int, key: str, count: int) -> None:
    client, _ = CASES[case]
    target = Target(port, key)
    clients, begun = [], [asyncio.Event() for _ in range(count)]

    async def guarded(number: int) -> None:
        try:
            await client(target, number, begun[number])
        except OSError as error:
            target.note(type(error).__name__)
        finally:
            begun[number].set()

    clients = [asyncio.create_task(guarded(number)) for number in range(count)]
    for event in begun:
        await event.wait()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    still = sum(not task.done() for task in clients)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    told = {"got": target.got, "slowest_seconds": target.slowest, "still_there": still}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
