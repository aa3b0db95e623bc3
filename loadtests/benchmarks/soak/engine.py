"""An engine whose answers do not end by themselves: streams that fall silent, and streams without end.

    python -m loadtests.benchmarks.soak.engine PORT

What the last message says decides. `silent`: one token, then nothing until the client has gone. Anything
else: tokens as fast as they are taken, until the client has gone; a stream that nobody reads stands still.
`GET /counters` tells what is open now.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from dataclasses import asdict, dataclass

import uvloop

HOST = "127.0.0.1"
SILENT, ENDLESS = "silent", "endless"
# A token of 4 KB: what matters is the bytes that nobody takes.
_EVENT = (
    b"data: %s\n\n"
    % json.dumps(
        {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "word " * 800}}],
        }
    ).encode()
)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNK = b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT)


@dataclass
class Counters:
    open: int = 0
    """Streams whose client has not gone."""
    begun: int = 0
    written_bytes: int = 0
    """Of endless streams, into their sockets."""


class Engine:
    def __init__(self) -> None:
        self._counters = Counters()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What nobody has taken must show at the gateway, so this end keeps little.
        writer.transport.set_write_buffer_limits(high=0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                if head.startswith("get "):
                    told = json.dumps(asdict(self._counters)).encode()
                    size = b"content-length: %d" % len(told)
                    writer.write(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (size, told))
                    continue
                size = int(head.split("content-length: ")[1].split("\r\n")[0])
                await self._stream(await reader.readexactly(size), reader, writer)
                break
        writer.close()

    async def _stream(
        self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._counters.begun += 1
        self._counters.open += 1
        try:
            writer.write(_HEAD + _CHUNK)
            if json.loads(body)["messages"][-1]["content"] == SILENT:
                await reader.read(1)
            else:
                while not reader.at_eof():
                    writer.write(_CHUNK)
                    await writer.drain()
                    await asyncio.sleep(0)  # the other streams' turn
                    self._counters.written_bytes += len(_CHUNK)
        finally:
            self._counters.open -= 1


async def serve(port: int) -> None:
    server = await asyncio.start_server(Engine().connection, HOST, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
