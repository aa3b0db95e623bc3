"""One HTTP request to an engine, over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re


async def fetch(method: str, address: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body. Raises OSError, or ValueError where the answer is no HTTP. No time limit."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        first, _, fields = (await reader.readuntil(b"\r\n\r\n")).lower().partition(b"\r\n")
        return int(first.split(b" ")[1]), await _body(reader, fields)
    except (IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ValueError("no whole answer of a web server") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _body(reader: asyncio.StreamReader, fields: bytes) -> bytes:
    if length := re.search(rb"content-length: *(\d+)", fields):
        return await reader.readexactly(int(length[1]))
    if b"transfer-encoding: chunked" not in fields:
        return await reader.read()
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    return b"".join(parts)
