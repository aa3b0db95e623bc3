"""HTTP/2 frames by hand, and headers without compression: what no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterable, Sequence

from ..running import KEY
from .wire import BODY, CHAT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 0x1, 0x4
Header = tuple[str, str | bytes]

PSEUDO: list[Header] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "gateway"),
    (":path", CHAT),
]
REGULAR: list[Header] = [
    ("authorization", f"Bearer {KEY}"),
    ("content-type", "application/json"),
]


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 1) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(headers: Iterable[Header]) -> bytes:
    """Each a literal that is never indexed (RFC 7541, 6.2.3)."""
    parts = []
    for name, value in headers:
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
        parts += [b"\x10", _string(name.encode("latin-1")), _string(raw)]
    return b"".join(parts)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes([size]) + text
    size -= 127
    prefix = [127]
    while size >= 128:
        prefix.append(size % 128 + 128)
        size //= 128
    return bytes([*prefix, size]) + text


def request(
    headers: Iterable[Header] | None = None, body: bytes = BODY, stream: int = 1
) -> list[bytes]:
    """The frames of one request."""
    coded = block([*PSEUDO, *REGULAR] if headers is None else headers)
    flags = END_HEADERS | (0 if body else END_STREAM)
    frames = [frame(HEADERS, coded[:16384], flags if len(coded) <= 16384 else 0, stream)]
    rest = [coded[at : at + 16384] for at in range(16384, len(coded), 16384)]
    for number, piece in enumerate(rest):
        last = END_HEADERS if number == len(rest) - 1 else 0
        frames.append(frame(CONTINUATION, piece, last, stream))
    if body:
        frames.append(frame(DATA, body, END_STREAM, stream))
    return frames


def replaced(name: str, *values: str | bytes) -> list[Header]:
    """A sound request's headers with other values of one of them, none to leave it out."""
    headers = [*PSEUDO, *REGULAR]
    at = next((i for i, header in enumerate(headers) if header[0] == name), len(headers))
    return [*headers[:at], *((name, value) for value in values), *headers[at + 1 :]]


def send(port: int, frames: Sequence[bytes], seconds: float = 10.0) -> bytes | None:
    """The body of the first stream's answer; None where the gateway ends the stream or the connection
    without one, or says nothing for so long."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(PREFACE + frame(SETTINGS, stream=0) + b"".join(frames))
        reader = connection.makefile("rb")
        body = b""
        while True:
            try:
                head = reader.read(9)
                if len(head) < 9:
                    return None
                kind, flags, number = struct.unpack(">BBI", head[3:])
                payload = reader.read(int.from_bytes(head[:3], "big"))
            except (ConnectionResetError, TimeoutError):
                return None
            if kind == GOAWAY or (kind == RST_STREAM and number == 1):
                return None
            if kind == DATA and number == 1:
                body += payload
            if kind in (DATA, HEADERS) and number == 1 and flags & END_STREAM:
                return body


def is_refusal(body: bytes | None) -> bool:
    """An error object, or no answer at all."""
    return body is None or set(json.loads(body)) == {"error"}
