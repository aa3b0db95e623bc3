"""The picker's own doors: gRPC that is not what Envoy sends, and HTTP that is none."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import grpc
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.gateway.names import BODY, LOT, MODEL, SESSION
from freehold.gateway.picker.prompt import prompt_of, read

from ..running import LIMITED, Bench
from .attacked import arrived, examples
from .wire import BODY as CHAT_BODY
from .wire import CHAT, request, send

_messages: Any = external_processor_pb2
_PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class Picked(NamedTuple):
    bench: Bench
    picker: grpc.Channel


@pytest.fixture
def picked(gateway: Bench) -> Iterator[Picked]:
    if gateway.gateway.picker is None:
        pytest.skip("a gateway without a picker")
    host, port = gateway.gateway.picker
    # One for a whole test: gRPC's client has crashed where each example opened and closed its own.
    with grpc.insecure_channel(f"{host}:{port}") as picker:
        yield Picked(gateway, picker)


def _ask(picked: Picked, messages: Iterable[bytes], method: str = _PROCESS) -> list[bytes]:
    """What the picker answers until the stream ends, for whatever reason."""
    answers: list[bytes] = []
    stream = picked.picker.stream_stream(method)
    try:
        for answer in stream(iter(messages), timeout=10, wait_for_ready=True):
            answers.append(answer)
    except grpc.RpcError as error:
        assert error.code() != grpc.StatusCode.DEADLINE_EXCEEDED, error  # type: ignore[attr-defined]
        assert error.code() != grpc.StatusCode.UNAVAILABLE, error  # type: ignore[attr-defined]
    return answers


def _headers(**values: bytes) -> bytes:
    message = _messages.ProcessingRequest()
    for name, value in values.items():
        message.request_headers.headers.headers.add(key=name.replace("_", "-"), raw_value=value)
    return message.SerializeToString()


def _body(body: bytes) -> bytes:
    message = _messages.ProcessingRequest()
    message.request_body.body = body
    message.request_body.end_of_stream = True
    return message.SerializeToString()


def _response(**fields: Any) -> bytes:
    message = _messages.ProcessingRequest(response_headers=_messages.HttpHeaders())
    for name, value in fields.items():
        message.attributes["envoy.filters.http.ext_proc"].fields[name].string_value = value
    return message.SerializeToString()


def _works(picked: Picked) -> None:
    """It still says where to send a request, and has none in flight that has ended."""
    *_, last = _ask(picked, [_headers(), _body(CHAT_BODY)])
    answer = _messages.ProcessingResponse.FromString(last)
    assert answer.dynamic_metadata.fields[BODY].struct_value.fields[MODEL].string_value == "chat"
    assert answer.request_body.response.header_mutation.set_headers
    assert picked.bench.picker_metric("freehold_picker_in_flight") == 0


STREAMS: dict[str, list[bytes]] = {
    "nothing": [],
    "an empty message": [b""],
    "bytes that are no message": [b"\xff" * 100],
    "half a message": [_body(CHAT_BODY)[:-5]],
    "bytes in the middle": [_headers(), b"\x0a\xff\xff\xff\xff\x0f", _body(CHAT_BODY)],
    "a body without headers": [_body(CHAT_BODY)],
    "two bodies": [_headers(), _body(CHAT_BODY), _body(CHAT_BODY)],
    "a hundred headers": [_headers()] * 100,
    "an answer without a request": [_response()],
    "an answer of a worker that is not there": [
        _body(CHAT_BODY),
        _response(**{"upstream.address": "1.2.3.4:5"}),
        _response(**{"upstream.address": "chat"}),
    ],
    "a lot that is no number": [_headers(**{LOT: b"many"}), _body(CHAT_BODY)],
    "a lot that is too large": [_headers(**{LOT: b"9" * 5000}), _body(CHAT_BODY)],
    "a session that is no text": [_headers(**{SESSION: b"\xff\xfe\0"}), _body(CHAT_BODY)],
    "a body that is no JSON": [_body(b"\xff{")],
    "a body that is too deep": [_body(b'{"model":"chat","messages":' + b"[" * 100_000)],
    "a body that is deep": [_body(b'{"model":"chat","messages":' + b"[" * 500 + b"]" * 500 + b"}")],
    "a model that is no text": [_body(b'{"model":{"a":1}}')],
    "parts that are no prompts": [
        _body(b'{"model":"chat","messages":1,"tools":"x","prompt":null,"input":{},"cache_salt":[]}')
    ],
    "a body beyond the limit": [_body(b"x" * (34 * 2**20))],
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_broken_stream_is_the_only_one_that_breaks(picked: Picked, name: str) -> None:
    _ask(picked, STREAMS[name])
    _works(picked)


@pytest.mark.parametrize("method", ["/a/b", "/", "/envoy.service.ext_proc.v3.ExternalProcessor/X"])
def test_another_method_is_not_there(picked: Picked, method: str) -> None:
    assert _ask(picked, [b""], method) == []
    _works(picked)


@pytest.mark.parametrize("port", ["grpc", "http"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
    ],
    ids=["nothing", "null bytes", "half a line", "empty lines", "a long header", "bad frames"],
)
def test_what_is_no_http(picked: Picked, port: str, data: bytes) -> None:
    gateway = picked.bench.gateway
    address = gateway.picker if port == "grpc" else gateway.picker_health()
    assert address is not None
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(data)
    _works(picked)


def test_who_is_refused_costs_the_picker_nothing(picked: Picked) -> None:
    """No key, too often, no HTTP: whoever floods the gateway with these does not reach it."""
    bench = picked.bench
    port, asked = bench.gateway.port, "cluster.picker.upstream_rq_total"
    of_limited = request(
        *(CHAT, "POST", "HTTP/1.1", f"Authorization: Bearer {LIMITED}", "X-Request-Id: limited:1"),
        without=["Authorization"],
    )
    first = [answer.status for answer in send(port, of_limited * 20, answers=20)]
    before = bench.envoy_stat(asked)
    for data in (
        request(without=["Authorization"]),
        request("/metrics"),
        b"\0\r\n\r\n",
        of_limited,
    ):
        assert [send(port, data)[0].status for _ in range(5)][-1] in (400, 401, 404, 429)
    assert 429 in first
    assert bench.envoy_stat(asked) - before <= 1  # the limited one may have got a token by then
    arrived(bench)


@settings(
    max_examples=examples(50),
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_messages(picked: Picked, messages: list[bytes]) -> None:
    _ask(picked, messages)


# --- The Python picker's reading of a body --------------------------------------------------------

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
_PARTS = st.sampled_from(["messages", "tools", "prompt", "input", "cache_salt", "model", "query"])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_nothing(data: bytes) -> None:
    body = read(data)
    assert body is None or body == json.loads(data)


@given(st.dictionaries(_PARTS, _JSON), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_object_has_a_prompt(body: dict[str, Any], model: str) -> None:
    assert prompt_of(body, model) == prompt_of(json.loads(json.dumps(body)), model)
