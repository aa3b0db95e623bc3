"""HTTP/1 as bytes: what no client library would send."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from ..running import KEY

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "chat", "messages": []}).encode()
_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def request(
    target: str | bytes = CHAT,
    method: str = "POST",
    version: str = "HTTP/1.1",
    *more: str | bytes,
    body: bytes = BODY,
    length: bool = True,
    without: Iterable[str] = (),
) -> bytes:
    """A sound request but for what is said: `more` are header lines, `without` names of headers."""
    headers = {
        "Host": "gateway",
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        **({"Content-Length": str(len(body))} if length else {}),
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in without]
    first = b" ".join((method.encode(), _bytes(target), version.encode()))
    return b"\r\n".join((first, *map(_bytes, (*lines, *more)), b"", body))


def chunked(*more: str | bytes, body: bytes | None = None) -> bytes:
    """Without a length, the body in one chunk unless given."""
    coded = body if body is not None else b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    return request(CHAT, "POST", "HTTP/1.1", *more, body=coded, length=False)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def send(port: int, data: bytes, answers: int = 1, seconds: float = _SECONDS) -> list[Answer]:
    """Sends all of it at once and reads so many answers; fewer where the gateway closes the connection, or
    says nothing for so long."""
    found: list[Answer] = []
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        rest = b""
        while len(found) < answers:
            try:
                piece = connection.recv(65536)
            except (ConnectionResetError, TimeoutError):
                break
            if not piece:
                break
            rest += piece
            while (answer := _first(rest)) is not None:
                rest = rest[answer[1] :]
                if answer[0].status != 100:
                    found.append(answer[0])
    return found


def _first(data: bytes) -> tuple[Answer, int] | None:
    """The first whole answer, and where it ends."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    status = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", first)
    assert status, f"no answer of a web server: {first!r}"
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    last = len(head) + 4 + int(headers.get("content-length", 0))
    if len(data) < last:
        return None
    return Answer(int(status[1]), headers, data[len(head) + 4 : last]), last
