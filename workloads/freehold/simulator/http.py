"""A small HTTP/1.1 server: one callback per connection event, no task per request.

Thousands of tokens a second, each its own SSE event, must cost little beside the gateway and the load
generator on the same two cores; this writes one in a few microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl

from .faults import Fault

# Larger than any context that is served; vLLM itself has no limit, the gateway has.
MAX_BODY = 256 * 2**20
_MAX_HEAD = 64 * 2**10

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Exchange:
    """One request and its answer. `gone` is called when the client leaves before the answer ends."""

    __slots__ = (
        "_connection",
        "body",
        "done",
        "fault",
        "gone",
        "headers",
        "method",
        "path",
        "query",
    )

    def __init__(
        self, connection: Connection, method: str, target: str, headers: dict[str, str]
    ) -> None:
        self._connection = connection
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = b""
        self.gone: Callable[[], None] | None = None
        self.fault: Fault | None = None  # what a test wants to go wrong with the answer
        self.done = False

    def parameter(self, name: str) -> str | None:
        return dict(parse_qsl(self.query)).get(name)

    def respond(
        self, status: int, body: bytes, content_type: str = "application/json", more: bytes = b""
    ) -> None:
        if self.done:
            return
        self._connection.write(
            b"HTTP/1.1 %d %s\r\n%scontent-type: %s\r\ncontent-length: %d\r\n\r\n"
            % (status, _REASONS[status].encode(), more, content_type.encode(), len(body))
            + body
        )
        self._finish()

    def stream(self, more: bytes = b"") -> None:
        """Begin an answer of server-sent events."""
        self._connection.write(
            b"HTTP/1.1 200 OK\r\n%scontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n" % more
        )

    def send(self, data: bytes) -> None:
        """A part of a stream."""
        if not self.done:
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        if not self.done:
            self._connection.write(b"0\r\n\r\n")
            self._finish()

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are, whatever HTTP says: for faults."""
        self._connection.write(data)

    def break_off(self) -> None:
        """Close the connection in the middle of everything."""
        self._connection.abort()

    def _finish(self) -> None:
        self.done = True
        self._connection.finished(self)


Handler = Callable[[Exchange], None]


class Connection(asyncio.Protocol):
    """Reads one request after the other and hands each to `handle`."""

    def __init__(self, handle: Handler, connections: set[Connection]) -> None:
        self._handle = handle
        self._all = connections
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._missing = 0
        """Body bytes still to come, when the length is known."""
        self._reading: Exchange | None = None
        self._answering: Exchange | None = None
        self._close_after = False

    # --- asyncio's callbacks --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        self._transport = None
        exchange, self._answering = self._answering, None
        if exchange and not exchange.done:
            exchange.done = True
            if exchange.gone:
                exchange.gone()

    def data_received(self, data: bytes) -> None:
        self._received += data
        # A long body arrives in many parts: nothing to look at before it is whole.
        if self._reading and len(self._received) < self._missing:
            return
        self._proceed()

    # --- For exchanges --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def close_when_idle(self) -> None:
        self._close_after = True
        if not self._answering and self._transport:
            self._transport.close()

    def finished(self, exchange: Exchange) -> None:
        if exchange is not self._answering:
            return
        self._answering = None
        if self._close_after and self._transport:
            self._transport.close()
        elif self._received:
            asyncio.get_running_loop().call_soon(self._proceed)

    # --- Reading --------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Read as far as what is there goes; the next request waits for the answer to this one."""
        try:
            while not self._answering and self._transport:
                exchange = self._reading or self._read_head()
                if exchange is None or not self._read_body(exchange):
                    return
                self._reading, self._answering = None, exchange
                self._handle(exchange)
        except ValueError:
            self.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            if self._transport:
                self._transport.close()

    def _read_head(self) -> Exchange | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _MAX_HEAD:
                raise ValueError("the head of the request has no end")
            return None
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        del self._received[: end + 4]
        method, target, version = first.split(" ")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        connection = headers.get("connection", "").lower()
        self._close_after |= connection == "close" or version == "HTTP/1.0"
        if "expect" in headers:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange = self._reading = Exchange(self, method, target, headers)
        self._missing = int(headers.get("content-length", 0))
        if not 0 <= self._missing <= MAX_BODY:
            raise ValueError("the body is too long")
        return exchange

    def _read_body(self, exchange: Exchange) -> bool:
        """True when the body is whole."""
        if "chunked" in exchange.headers.get("transfer-encoding", ""):
            found = _unchunked(self._received)
            if found is None:
                return False
            exchange.body, used = found
        elif len(self._received) < self._missing:
            return False
        else:
            used = self._missing
            exchange.body = bytes(memoryview(self._received)[:used])
        del self._received[:used]
        self._missing = 0
        return True


def _unchunked(data: bytearray) -> tuple[bytes, int] | None:
    """The body and how many bytes it took; None when its last chunk is not there yet."""
    parts, at = [], 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].split(b";")[0], 16)
        start, at = line + 2, line + 2 + size + 2
        if size == 0:
            # Trailers, if any, end with an empty line.
            end = start if data[start : start + 2] == b"\r\n" else data.find(b"\r\n\r\n", start) + 2
            if end < start or len(data) < end + 2:
                return None
            return b"".join(parts), end + 2
        if len(data) < at:
            return None
        parts.append(bytes(data[start : start + size]))
