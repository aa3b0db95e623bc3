"""HTTP/1 as attackers write it: two lengths, odd targets, foreign protocols, headers that lie."""

from __future__ import annotations

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..running import KEY, Bench
from .attacked import arrived, examples, expect_sound
from .strict_engine import FORGED
from .wire import BODY, CHAT, chunked, request, send


def _to(target: str | bytes, method: str = "POST") -> bytes:
    return request(target, method, body=b"" if method in ("GET", "CONNECT") else BODY)


def _with(*lines: str | bytes) -> bytes:
    return request(CHAT, "POST", "HTTP/1.1", *lines)


_LENGTH = f"Content-Length: {len(BODY)}"
_ONE_CHUNK = b"%x%s\r\n%s\r\n0%s\r\n\r\n"
_PLAIN_TE = "Transfer-Encoding: chunked"

REFUSED = {
    # Where does the body end?
    "length and chunked": request(
        CHAT, "POST", "HTTP/1.1", _PLAIN_TE, body=b"0\r\n\r\n" + _to("/metrics", "GET")
    ),
    "chunked, then something": chunked("Transfer-Encoding: chunked, identity"),
    "something, then chunked": chunked("Transfer-Encoding: identity, chunked"),
    "compressed and chunked": chunked("Transfer-Encoding: gzip, chunked"),
    "chunked twice": chunked(_PLAIN_TE, _PLAIN_TE),
    "chunked and identity": chunked(_PLAIN_TE, "Transfer-Encoding: identity"),
    "almost chunked": chunked("Transfer-Encoding: xchunked"),
    "chunked after a vertical tab": chunked("Transfer-Encoding: \x0bchunked"),
    "chunked in quotes": chunked('Transfer-Encoding: "chunked"'),
    "a space before the colon": chunked("Transfer-Encoding : chunked"),
    "length twice": _with(_LENGTH),
    "two lengths": _with("Content-Length: 3"),
    "a list of lengths": request(CHAT, "POST", "HTTP/1.1", f"{_LENGTH}, {len(BODY)}", length=False),
    "a length with a sign": request(CHAT, "POST", "HTTP/1.1", "Content-Length: +60", length=False),
    "a negative length": request(CHAT, "POST", "HTTP/1.1", "Content-Length: -1", length=False),
    "a hexadecimal length": request(CHAT, "POST", "HTTP/1.1", "Content-Length: 0x3c", length=False),
    "a length beyond 64 bits": request(
        CHAT, "POST", "HTTP/1.1", "Content-Length: 99999999999999999999", length=False
    ),
    "a chunk's size is no number": chunked(_PLAIN_TE, body=b"zz\r\n" + BODY),
    "a chunk's size is negative": chunked(_PLAIN_TE, body=b"-1\r\n" + BODY),
    "a chunk's size is too large": chunked(_PLAIN_TE, body=b"1" + b"0" * 17 + b"\r\n" + BODY),
    "a line feed in a chunk's extension": chunked(
        _PLAIN_TE, body=_ONE_CHUNK % (len(BODY), b";a\nb", BODY, b"")
    ),
    # Where does it go?
    "two slashes": _to(f"/{CHAT}"),
    "two slashes inside": _to("/v1//chat/completions"),
    "a dot": _to("/v1/./chat/completions"),
    "dots to the metrics": _to("/v1/../metrics", "GET"),
    "escaped dots": _to("/v1/%2e%2e/metrics", "GET"),
    "dots escaped twice": _to("/v1/%252e%252e/metrics", "GET"),
    "dots after the path": _to(f"{CHAT}/../../../metrics"),
    "an escaped slash": _to("/v1/chat%2fcompletions"),
    "an escaped letter": _to("/v1/chat/c%6fmpletions"),
    "a backslash": _to("/v1\\chat\\completions"),
    "a parameter": _to(f"{CHAT};x=1"),
    "a dot at the end": _to(f"{CHAT}."),
    "a slash at the end": _to(f"{CHAT}/"),
    "an escaped null byte": _to(f"{CHAT}%00"),
    "a null byte": _to(f"{CHAT}\0"),
    "a byte beyond ASCII": _to(f"{CHAT}\xff"),
    "a byte beyond ASCII in the query": _to(f"{CHAT}?\xff"),
    "an overlong slash": _to(b"/v1/chat\xc0\xafcompletions"),
    "a space": _to(f"{CHAT} x"),
    "a tab": _to(f"{CHAT}\tx"),
    "a fragment": _to(f"{CHAT}#x"),
    "no slash": _to(CHAT[1:]),
    "nothing": _to(""),
    "a star": _to("*", "OPTIONS"),
    "another host's metrics": _to("http://127.0.0.1/metrics", "GET"),
    "another scheme": _to(f"ftp://engine{CHAT}"),
    "a host with a space": request(CHAT, "POST", "HTTP/1.1", "Host: a b", without=["Host"]),
    "no host": request(CHAT, without=["Host"]),
    "a tunnel": _to("127.0.0.1:9901", "CONNECT"),
    "a tunnel to a path": _to(CHAT, "CONNECT"),
    "a tunnel without a key": request("engine:80", "CONNECT", body=b"", without=["Authorization"]),
    # Which protocol?
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/1.0": request(CHAT, "POST", "HTTP/1.0"),
    "HTTP/1.2": request(CHAT, "POST", "HTTP/1.2"),
    "HTTP/2.0 in a line": request(CHAT, "POST", "HTTP/2.0"),
    "http/1.1 in small letters": request(CHAT, "POST", "http/1.1"),
    "two versions": request(CHAT, "POST", "HTTP/1.1 HTTP/1.1"),
    "a websocket": request(
        *("/v1/chat/completions", "GET", "HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"),
        *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        body=b"",
    ),
    "a websocket by POST": _with("Connection: Upgrade", "Upgrade: websocket"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    # What is asked for?
    "TRACE": _to(CHAT, "TRACE"),
    "TRACE of the models": _to("/v1/models", "TRACE"),
    "another method": _to(CHAT, "DELETE"),
    "an invented method": _to(CHAT, "BREW"),
    "the method in small letters": _to(CHAT, "post"),
    "a method with bytes in front": b"\0\0\0" + request(),
    "a long method": _to(CHAT, "A" * 5000),
    "GET with a body": request(CHAT, "GET"),
    # Headers.
    "a header of 70 KB": _with("X-A: " + "a" * 70_000),
    "a target of 70 KB": _to(f"{CHAT}?{'a' * 70_000}"),
    "200 headers": _with(*(f"X-{number}: a" for number in range(200))),
    "a null byte in a header": _with("X-A: a\0b"),
    "a control character in a header": _with("X-Request-Id: a\x7fb"),
    "a header without a name": _with(": a"),
    "a header without a colon": _with("X-A"),
    "parentheses in a header's name": _with("X(A): a"),
    "a space in a header's name": _with("X A: a"),
    "the first header folded": request().replace(b"Host:", b" Host:", 1),
    "another key first": request(
        *(CHAT, "POST", "HTTP/1.1", "Authorization: Bearer x", f"Authorization: Bearer {KEY}"),
        without=["Authorization"],
    ),
    "another key second": _with("Authorization: Bearer x"),
    "the key taken away on the way": _with("Connection: authorization"),
    "two types": _with("Content-Type: text/plain"),
    "a type that begins right": request(
        *(CHAT, "POST", "HTTP/1.1", "Content-Type: application/jsonp"), without=["Content-Type"]
    ),
    "a compressed body": request(
        *(CHAT, "POST", "HTTP/1.1", "Content-Encoding: gzip"),
        body=b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + BODY,
    ),
    "no body": request(body=b""),
    "no body and no length": request(body=b"", length=False),
}

SERVED = {
    "as it should be": request(),
    "in chunks": chunked(_PLAIN_TE),
    "chunked after a tab": chunked("Transfer-Encoding:\tchunked"),
    "chunked in large letters": chunked("Transfer-Encoding: CHUNKED"),
    "chunked, folded": chunked("Transfer-Encoding:\r\n chunked"),
    "extensions of chunks": chunked(_PLAIN_TE, body=_ONE_CHUNK % (len(BODY), b";a=b", BODY, b";c")),
    "something after a chunk": chunked(
        _PLAIN_TE, body=b"%x\r\n%sabc\r\n0\r\n\r\n" % (len(BODY), BODY)
    ),
    "trailers": chunked(
        _PLAIN_TE,
        body=b"%x\r\n%s\r\n0\r\nX-Gateway-Lot: %s\r\nContent-Length: 3\r\n\r\n"
        % (len(BODY), BODY, FORGED.encode()),
    ),
    "lines that end in a line feed": request().replace(b"\r\n", b"\n"),
    "a line feed in a header": _with("X-A: a\nX-B: b"),
    "a carriage return in a header": _with("X-A: a\rX-B: b"),
    "a folded header": _with("X-A: a\r\n b"),
    "a header beyond ASCII": _with("X-A: \xff\xfe"),
    "empty lines in front": b"\r\n\r\n" + request(),
    "an absolute target": _to(f"http://elsewhere{CHAT}"),
    "a target with a user": _to(f"http://user:word@elsewhere{CHAT}"),
    "a path in the query": _to(f"{CHAT}?/../../metrics"),
    "two hosts": _with("Host: elsewhere"),
    "an empty host": request(CHAT, "POST", "HTTP/1.1", "Host:", without=["Host"]),
    "a user in the host": request(CHAT, "POST", "HTTP/1.1", "Host: user@x", without=["Host"]),
    "a switch to HTTP/2": _with(
        *(
            "Connection: Upgrade, HTTP2-Settings",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        ),
    ),
    "one that waits for 100": _with("Expect: 100-continue"),
    "one that waits for something else": _with("Expect: 200-ok"),
    "forged headers": _with(
        f"X-Envoy-Original-Path: {FORGED}",
        f"X-Envoy-Retry-On: {FORGED}",
        f"X-ENVOY-Upstream-Rq-Timeout-Ms: {FORGED}",
        f"x-gateway-destination-endpoint: 127.0.0.1:1, {FORGED}",
        f"x-gateway-lot: {FORGED}",
        f"X-Gateway-Model: {FORGED}",
    ),
    "orders to the engine": _with(
        *("X-Vllm-Priority: -9", "X-data-parallel-rank: 7", "endpoint-load-metrics-format: json"),
    ),
    "lengths with underscores": _with("content_length: 3", "transfer_encoding: chunked"),
    "headers taken away on the way": _with(
        *("Connection: x-request-id, x-gateway-destination-endpoint", "X-Request-Id: a"),
    ),
    "what is for the next hop": _with("TE: trailers", "Connection: te", "Keep-Alive: 5"),
    "a type with parameters": request(
        *(CHAT, "POST", "HTTP/1.1", "Content-Type: application/json;charset=utf-7"),
        without=["Content-Type"],
    ),
    "a coding that is not there": _with("Content-Encoding: gzip"),
    "an odd request id": _with(b'X-Request-Id: "\xff\\'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(gateway: Bench, name: str) -> None:
    answers = send(gateway.gateway.port, REFUSED[name])
    expect_sound(answers)
    assert answers and 400 <= answers[0].status < 500, answers
    assert not arrived(gateway)


@pytest.mark.parametrize("name", SERVED)
def test_it_arrives_once_and_clean(gateway: Bench, name: str) -> None:
    answers = send(gateway.gateway.port, SERVED[name])
    assert [answer.status for answer in answers] == [200], answers
    assert len(arrived(gateway)) == 1


INNER = request("/v1/completions")
HIDDEN = {
    "in the body of another path": (request("/metrics", body=INNER), [404]),
    "in the body of another method": (request(CHAT, "PUT", body=INNER), [405]),
    "in the body of the model list": (request("/v1/models", "GET", body=INNER), [200]),
    "in the body of no JSON": (request(body=INNER), [400]),
    "in the body of no key": (request(body=INNER, without=["Authorization"]), [401]),
    "in a chunk": (
        chunked("Transfer-Encoding: chunked", body=_ONE_CHUNK % (len(INNER), b"", INNER, b"")),
        [400],
    ),
    "in a trailer": (
        chunked("Transfer-Encoding: chunked", body=b"0\r\n" + INNER),
        [400],
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_request_inside_another_is_not_seen(gateway: Bench, name: str) -> None:
    """Where the gateway answers before it has read the body, what follows is still that body."""
    data, statuses = HIDDEN[name]
    answers = send(gateway.gateway.port, data, answers=2, seconds=0.3)
    expect_sound(answers)
    assert [answer.status for answer in answers] == statuses, answers
    assert not arrived(gateway)


PIPELINES = {
    "a refused path, then a good one": ([request("/metrics"), request()], [404, 200], 1),
    "a good one, then a refused path": ([request(), request("/metrics")], [200, 404], 1),
    "no JSON, then a good one": ([request(body=b"{"), request()], [400], 0),
    "three good ones": ([request()] * 3, [200] * 3, 3),
    "no key, then a good one": (
        [request(body=b"", without=["Authorization"]), request()],
        [401, 200],
        1,
    ),
    "a good one, then no key": ([request(), request(without=["Authorization"])], [200, 401], 1),
    "a good one, then no HTTP": ([request(), b"\0\0\r\n\r\n"], [200, 400], 1),
    "a body shorter than its length says": (
        [request(CHAT, "POST", "HTTP/1.1", f"Content-Length: {len(BODY) - 1}", length=False)],
        [400],
        0,
    ),
    "a body longer than its length says": (
        [request(CHAT, "POST", "HTTP/1.1", f"Content-Length: {len(BODY)}", length=False) + b"x"],
        [200],
        1,
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_requests_in_one_go_are_told_apart(gateway: Bench, name: str) -> None:
    requests, statuses, reached = PIPELINES[name]
    answers = send(gateway.gateway.port, b"".join(requests), answers=len(statuses) + 1, seconds=0.3)
    expect_sound(answers)
    assert [answer.status for answer in answers] == statuses, answers
    assert len(arrived(gateway)) == reached


def test_a_request_byte_by_byte(gateway: Bench) -> None:
    data = request()
    with socket.create_connection(("127.0.0.1", gateway.gateway.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.send(bytes([byte]))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert len(arrived(gateway)) == 1


# --- Any bytes --------------------------------------------------------------------------------------

_PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [
            *(
                b"\r\n",
                b"\n",
                b"\r",
                b"\0",
                b" ",
                b":",
                b"\t",
                b"/",
                b"..",
                b"%2e",
                b";",
                b"#",
                b"?",
            ),
            *(
                b"0\r\n\r\n",
                b"\r\n\r\n",
                b"5\r\n",
                b"GET /metrics HTTP/1.1\r\nHost: engine\r\n\r\n",
            ),
            *(
                b"Transfer-Encoding: chunked\r\n",
                b"Content-Length: 5\r\n",
                b"Connection: upgrade\r\n",
            ),
        ]
    ),
)
_EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), _PIECES), min_size=1, max_size=4)
_STARTS = st.sampled_from([request(), request() * 2, chunked(_PLAIN_TE), _to("/metrics")])


@pytest.mark.long
@settings(
    max_examples=examples(60),
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=_STARTS, edits=_EDITS)
def test_any_bytes(gateway: Bench, data: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    """Sound requests with bytes put in and taken out: what arrives is sound, whatever is answered."""
    for place, removed, piece in edits:
        at = int(place * len(data))
        data = data[:at] + piece + data[at + removed :]
    expect_sound(send(gateway.gateway.port, data, answers=3, seconds=0.1))
    arrived(gateway)
