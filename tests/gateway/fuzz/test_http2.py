"""HTTP/2 without TLS or negotiation, as attackers write it: pseudo headers, smuggled lines, floods."""

from __future__ import annotations

import json

import pytest

from ..running import Bench
from .attacked import arrived
from .http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PSEUDO,
    PUSH,
    REGULAR,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    block,
    frame,
    is_refusal,
    replaced,
    request,
    send,
)
from .strict_engine import FORGED
from .wire import BODY, CHAT

_SOUND = block([*PSEUDO, *REGULAR])

REFUSED = {
    "no method": request(replaced(":method")),
    "no path": request(replaced(":path")),
    "an empty path": request(replaced(":path", "")),
    "no scheme": request(replaced(":scheme")),
    "two paths": request(replaced(":path", CHAT, "/metrics")),
    "two methods": request(replaced(":method", "POST", "GET")),
    "an invented pseudo header": request([(":engine", "chat-0"), *PSEUDO, *REGULAR]),
    "a pseudo header at the end": request([*PSEUDO[:3], *REGULAR, PSEUDO[3]]),
    "an answer's status": request([*PSEUDO, (":status", "200"), *REGULAR]),
    "a path that is a request": request(
        replaced(":path", f"{CHAT} HTTP/1.1\r\nHost: engine\r\n\r\nGET /metrics")
    ),
    "a path with a space": request(replaced(":path", f"{CHAT} HTTP/1.1")),
    "a path with a null byte": request(replaced(":path", f"{CHAT}\0")),
    "a path without a slash": request(replaced(":path", CHAT[1:])),
    "two slashes": request(replaced(":path", f"/{CHAT}")),
    "dots": request(replaced(":path", "/v1/../metrics")),
    "an absolute path": request(replaced(":path", "http://engine/metrics")),
    "a star": request(replaced(":path", "*")),
    "a method that is a line": request(replaced(":method", "GET /metrics HTTP/1.1\r\nX: ")),
    "a method in small letters": request(replaced(":method", "post")),
    "a scheme that is a line": request(replaced(":scheme", "http\r\nX-A: a")),
    "an authority that is a line": request(replaced(":authority", "gateway\r\nX-A: a")),
    "a tunnel": request([(":method", "CONNECT"), (":authority", "engine:80"), *REGULAR], b""),
    "a websocket": request([*replaced(":method", "CONNECT"), (":protocol", "websocket")], b""),
    "a header in large letters": request([*PSEUDO, *REGULAR, ("X-A", "a")]),
    "a line feed in a header": request([*PSEUDO, *REGULAR, ("x-a", "a\r\nx-b: b")]),
    "a null byte in a header": request([*PSEUDO, *REGULAR, ("x-a", "a\0b")]),
    "a colon in a header's name": request([*PSEUDO, *REGULAR, ("x:a", "a")]),
    "a header without a name": request([*PSEUDO, *REGULAR, ("", "a")]),
    "a connection header": request([*PSEUDO, *REGULAR, ("connection", "close")]),
    "a transfer coding": request([*PSEUDO, *REGULAR, ("transfer-encoding", "chunked")]),
    "an upgrade": request([*PSEUDO, *REGULAR, ("upgrade", "websocket")]),
    "a length that is too short": request([*PSEUDO, *REGULAR, ("content-length", "3")]),
    "a length that is too long": request([*PSEUDO, *REGULAR, ("content-length", "3000")]),
    "two lengths": request(
        [*PSEUDO, *REGULAR, ("content-length", str(len(BODY))), ("content-length", "3")]
    ),
    "a length and no body": request([*PSEUDO, *REGULAR, ("content-length", "60")], b""),
    "headers of 70 KB": request([*PSEUDO, *REGULAR, ("x-a", "a" * 70_000)]),
    "200 headers": request([*PSEUDO, *REGULAR, *((f"x-{n}", "a") for n in range(200))]),
    "two keys": request([*PSEUDO, *REGULAR, ("authorization", "Bearer x")]),
    "no key": request([*PSEUDO, *REGULAR[1:]]),
    "no type": request([*PSEUDO, *REGULAR[:1]]),
    "no body": request(body=b""),
    "headers in the middle": [
        frame(HEADERS, _SOUND, END_HEADERS),
        frame(HEADERS, block([(":path", "/metrics")]), END_HEADERS),
    ],
    "trailers that are pseudo headers": [
        frame(HEADERS, _SOUND, END_HEADERS),
        frame(DATA, BODY),
        frame(HEADERS, block([(":path", "/metrics")]), END_HEADERS | END_STREAM),
    ],
    "a body before its headers": [frame(DATA, BODY, END_STREAM)],
    "a stream of the server's": request(stream=2),
    "stream zero": [frame(HEADERS, _SOUND, END_HEADERS, stream=0)],
    "a push": [frame(PUSH, b"\0\0\0\2" + _SOUND, END_HEADERS)],
    "another stream among headers": [frame(HEADERS, _SOUND), *request(stream=3)],
    "a continuation of nothing": [frame(CONTINUATION, _SOUND, END_HEADERS)],
    "a frame that is too large": [frame(HEADERS, _SOUND, END_HEADERS), frame(DATA, bytes(70_000))],
    "headers that cannot be read": [frame(HEADERS, b"\xff" * 50, END_HEADERS | END_STREAM)],
    "an index beyond the table": [frame(HEADERS, b"\xff\xff\xff\x0f", END_HEADERS | END_STREAM)],
    "padding beyond the frame": [frame(DATA, b"\xff" + BODY, END_STREAM | 0x8)],
    "a window that overflows": [frame(WINDOW, b"\x7f\xff\xff\xff", stream=0)] * 2,
    "a window of nothing": [frame(WINDOW, bytes(4), stream=0)],
    "settings of the wrong size": [frame(SETTINGS, b"abc", stream=0)],
    "a window size beyond its bounds": [frame(SETTINGS, b"\0\4\xff\xff\xff\xff", stream=0)],
    "a ping of the wrong size": [frame(PING, b"abc", stream=0)],
    "a flood of empty continuations": [
        frame(HEADERS, _SOUND),
        *[frame(CONTINUATION)] * 20_000,
    ],
    "a flood of empty data": [
        frame(HEADERS, _SOUND, END_HEADERS),
        *[frame(DATA)] * 20_000,
    ],
    "a flood of settings": [frame(SETTINGS, b"\0\4\0\0\0\1", stream=0)] * 20_000,
    "a flood of pings": [frame(PING, bytes(8), stream=0)] * 20_000,
    "a flood of priorities": [frame(PRIORITY, b"\0\0\0\3\x10")] * 20_000,
    "HTTP/1 after the preface": [b"GET /metrics HTTP/1.1\r\nHost: engine\r\n\r\n"],
}

SERVED = {
    "as it should be": request(),
    "another authority": request(replaced(":authority", "elsewhere")),
    "an authority and a host": request([*PSEUDO, *REGULAR, ("host", "elsewhere")]),
    "no authority": request([*replaced(":authority"), ("host", "elsewhere")]),
    "an unknown kind of frame": [frame(0xBE, b"abc"), *request()],
    "trailers": [
        frame(HEADERS, _SOUND, END_HEADERS),
        frame(DATA, BODY),
        frame(HEADERS, block([("x-gateway-lot", FORGED)]), END_HEADERS | END_STREAM),
    ],
    "forged headers": request(
        [
            *(*PSEUDO, *REGULAR, ("x-envoy-original-path", FORGED), ("x-gateway-lot", FORGED)),
            *(("x-gateway-destination-endpoint", FORGED), ("x-vllm-priority", "-9")),
        ]
    ),
    "headers byte by byte": [
        frame(HEADERS, _SOUND[:1]),
        *(frame(CONTINUATION, _SOUND[at : at + 1]) for at in range(1, len(_SOUND))),
        frame(CONTINUATION, b"", END_HEADERS),
        frame(DATA, BODY, END_STREAM),
    ],
    "a goodbye after it": [*request(), frame(GOAWAY, bytes(8), stream=0)],
}

# Of most of it nothing is heard: Envoy ends the connection, a second later.
_SILENT = 0.1


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(gateway: Bench, name: str) -> None:
    body = send(gateway.gateway.port, REFUSED[name], seconds=_SILENT)
    assert is_refusal(body), body
    assert not arrived(gateway)


@pytest.mark.parametrize("name", SERVED)
def test_it_arrives_once_and_clean(gateway: Bench, name: str) -> None:
    body = send(gateway.gateway.port, SERVED[name])
    assert body is not None
    assert "by" in json.loads(body), body
    assert len(arrived(gateway)) == 1


def test_requests_that_are_taken_back_at_once(gateway: Bench) -> None:
    """A thousand of them, each reset before it is answered: other clients notice nothing."""
    frames = []
    for stream in range(3, 2003, 2):
        frames += [*request(stream=stream), frame(RST_STREAM, b"\0\0\0\x08", stream=stream)]
    send(gateway.gateway.port, frames, seconds=_SILENT)
