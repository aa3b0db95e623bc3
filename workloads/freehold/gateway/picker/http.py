"""One HTTP request to an engine, over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re

from freehold.gateway.names import ENGINE_HOST, PICKER_AGENT

# An engine that tokenizes or reads a long prompt may not answer for a while and must not be taken for dead.
PATIENCE_SECONDS = 5.0


async def fetch(method: str, address: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body. Raises OSError (TimeoutError after `PATIENCE_SECONDS`), or ValueError where the answer
    is no HTTP."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await _fetch(method, address, path, body)


async def _fetch(method: str, address: str, path: str, body: bytes) -> tuple[int, bytes]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: {ENGINE_HOST}\r\nConnection: close\r\n"
        head += f"User-Agent: {PICKER_AGENT}\r\n"
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
