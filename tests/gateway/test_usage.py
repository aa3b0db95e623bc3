"""Each tenant's requests and tokens are counted, streamed or not, and nobody sees that they are."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

from freehold.gateway.model import ApiKey, Gateway, Pool, Worker

from .door import Json
from .running import KEY, LEFT, RIGHT, Bench, envoy_process, is_ready, until

_SAMPLE = re.compile(r"^envoy_freehold_(\w+)\{(.*)\} (\d+)$", re.MULTILINE)
_CHAT, _USAGE = "/v1/chat/completions", {"include_usage": True}
Counts = dict[tuple[str, ...], int]


def _counts(admin_port: int) -> Counts:
    """By what is counted, tenant, pool and, of requests, status."""
    text = httpx.get(f"http://127.0.0.1:{admin_port}/stats/prometheus").text
    return {
        (name, *re.findall(r'"([^"]*)"', labels)): int(value)
        for name, labels, value in _SAMPLE.findall(text)
    }


def _grown(admin_port: int, before: Counts, expected: Counts) -> None:
    """Exactly these counters have grown, by so much; a request is counted a moment after its answer."""

    def change() -> Counts:
        after = _counts(admin_port)
        return {key: n - before.get(key, 0) for key, n in after.items() if n != before.get(key, 0)}

    try:
        until(lambda: change() == expected, seconds=5)
    except AssertionError:
        assert change() == expected


@pytest.fixture(params=["with_picker", "without_picker"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return request.getfixturevalue(request.param)


def _post(bench: Bench, key: str, path: str = _CHAT, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return bench.client.post(path, json={**bench.chat(), **body}, headers=headers)


def test_plain_and_streamed_answers_of_two_tenants(bench: Bench) -> None:
    before = _counts(bench.gateway.admin_port)
    answers = [
        _post(bench, LEFT),
        _post(bench, LEFT, stream=True),
        _post(bench, RIGHT, stream=True, stream_options=_USAGE),
        _post(bench, RIGHT, "/v1/embeddings", model="embed", input="hello"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    expected = {  # the stub: 3 tokens of a prompt, 2 of a plain answer, 3 of a stream
        ("requests", "left", "chat", "200"): 2,
        ("prompt_tokens", "left", "chat"): 6,
        ("completion_tokens", "left", "chat"): 5,
        ("requests", "right", "chat", "200"): 1,
        ("prompt_tokens", "right", "chat"): 3,
        ("completion_tokens", "right", "chat"): 3,
        ("requests", "right", "embed", "200"): 1,
        ("prompt_tokens", "right", "embed"): 3,
        ("completion_tokens", "right", "embed"): 2,
    }
    _grown(bench.gateway.admin_port, before, expected)


def test_whoever_has_no_key_is_nobody(bench: Bench) -> None:
    before = _counts(bench.gateway.admin_port)
    assert _post(bench, "no-key-of-ours").status_code == 401
    _grown(bench.gateway.admin_port, before, {("requests", "nobody", "", "401"): 1})
    assert "non-number" not in (bench.folder / "envoy.log").read_text()


def test_a_client_sees_usage_in_its_stream_when_it_asked(bench: Bench) -> None:
    asked = _post(bench, KEY, stream=True, stream_options=_USAGE)
    assert '"usage"' in asked.text
    not_asked: list[Json] = [{}, {"stream_options": {"include_usage": False}}]
    for options in not_asked:
        answer = _post(bench, KEY, **bench.chat(stream=True, **options))
        engine, seen = bench.sole(answer.headers["x-request-id"])
        assert seen.json["stream_options"] == _USAGE, "the engine was asked all the same"
        without = re.sub(r'data: [^\n]*"usage"[^\n]*\n\n', "", asked.text)
        assert answer.text == re.sub(r"chat-\d", engine.name, without)


def test_no_way_of_writing_it_keeps_a_stream_from_being_counted(bench: Bench) -> None:
    before = _counts(bench.gateway.admin_port)
    for key in (b"stream", b"str\\u0065am", b"\\u0073\\u0074ream"):
        body = b'{"messages": [{"role": "user", "content": "\\\\u0065 \\""}], "%s" : true, "model": "chat"}'
        assert bench.post(_CHAT, body % key, {"authorization": f"Bearer {LEFT}"}).status_code == 200
    expected = {
        ("requests", "left", "chat", "200"): 3,
        ("prompt_tokens", "left", "chat"): 9,
        ("completion_tokens", "left", "chat"): 9,
    }
    _grown(bench.gateway.admin_port, before, expected)


def test_other_requests_reach_the_engine_as_they_were_sent(bench: Bench) -> None:
    """Engines refuse `stream_options` of what is no stream."""
    nested: Json = {"chat_template_kwargs": {"stream": True, "text": '{"a": "}\\" [" '}}
    for path, body in (
        (_CHAT, bench.chat()),
        (_CHAT, bench.chat(**nested)),
        (_CHAT, bench.chat('"stream": true')),
        ("/v1/responses", {"model": "chat", "input": "hi", "stream": True}),
    ):
        sent = json.dumps(body, indent=1).encode()
        answer = bench.post(path, sent)
        assert answer.status_code == 200
        assert bench.sole(answer.headers["x-request-id"])[1].body == sent


# What engines may write, however the network cuts it.


@contextmanager
def _writes(pieces: Sequence[bytes], content_type: bytes) -> Iterator[int]:
    """An engine that answers everything with these pieces, each by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(connection: socket.socket) -> None:
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                if request.startswith(b"GET /health"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    return
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: "
                connection.sendall(head + content_type + b"\r\n\r\n")
                for piece in pieces:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                    time.sleep(0.01)
                connection.sendall(b"0\r\n\r\n")

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _answer_of(
    pieces: Sequence[bytes], content_type: bytes, folder: Path, path: str = _CHAT, **body: Any
) -> tuple[bytes, Counts]:
    """What a client gets of it, and what was counted."""
    with _writes(pieces, content_type) as port:
        door, admin = free_ports(2)
        pool = Pool("chat", "generate", ("chat",), (Worker("chat-0", "127.0.0.1", port),))
        keys = (ApiKey(KEY, "acme"),)
        gateway = Gateway(door, admin, (pool,), keys, access_log=str(folder / "access.log"))
        with envoy_process(gateway, folder):
            until(lambda: is_ready(gateway))
            answer = httpx.post(
                f"http://127.0.0.1:{door}{path}",
                json={"model": "chat", **body},
                headers={"authorization": f"Bearer {KEY}"},
            )
            assert answer.status_code == 200, answer.text
            key = ("requests", "acme", "chat", "200")
            until(lambda: key in _counts(admin))
            return answer.content, {k: n for k, n in _counts(admin).items() if k != key}


def _counted(prompt: int, completion: int) -> Counts:
    kinds = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {(kind, "acme", "chat"): number for kind, number in kinds.items()}


_TOKEN = b'data: {"choices":[{"delta":{"content":"the \\"usage\\":{\\"prompt_tokens\\":9}"}}]}\n\n'
_LAST = b'data: {"choices":[],"usage":{"prompt_tokens":12,"total_tokens":46,"completion_tokens":34}}\n\n'
_DONE = b"data: [DONE]\n\n"
_SSE, _JSON = b"text/event-stream; charset=utf-8", b"application/json"


def _at_once(text: bytes) -> list[bytes]:
    return [text]


def _by_seven(text: bytes) -> list[bytes]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


@pytest.mark.parametrize("cut", [_at_once, _by_seven])
def test_a_stream_in_any_pieces(cut: Callable[[bytes], list[bytes]], tmp_path: Path) -> None:
    pieces = cut(_TOKEN + _TOKEN + _LAST + _DONE)
    seen, counted = _answer_of(pieces, _SSE, tmp_path, stream=True)
    assert seen == _TOKEN + _TOKEN + _DONE
    assert counted == _counted(12, 34)


def test_a_stream_whose_end_is_not_quite_regular(tmp_path: Path) -> None:
    end = b"data: [DONE]"
    seen, counted = _answer_of([_TOKEN, _LAST, end], _SSE, tmp_path, stream=True)
    assert seen == _TOKEN + end
    assert counted == _counted(12, 34)


def test_a_plain_answer_to_who_wants_a_stream(tmp_path: Path) -> None:
    text = b'{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34}}'
    seen, counted = _answer_of(_by_seven(text), _JSON, tmp_path, stream=True)
    assert seen == text
    assert counted == _counted(12, 34)


def test_usage_in_every_event_counts_once(tmp_path: Path) -> None:
    usage = b'"usage":{"prompt_tokens":12,"total_tokens":%d,"completion_tokens":%d}'
    events = [
        b'data: {"choices":[{}],%s}\n\n' % (usage % (12 + place, place)) for place in range(1, 5)
    ]
    seen, counted = _answer_of([*events, _DONE], _SSE, tmp_path, stream=True)
    assert seen == b"".join([*events, _DONE])
    assert counted == _counted(12, 4)


def test_streams_of_responses_and_messages(tmp_path: Path) -> None:
    responses = (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"tools":[{"parameters":'
        b'{"properties":{"usage":{"type":"object","input_tokens":1}}}}],"usage":{"input_tokens":12,'
        b'"input_tokens_details":{"cached_tokens":3},"output_tokens":34,"total_tokens":46}}}\n\n'
    )
    messages = (
        b'data: {"type":"message_start","message":{"usage":{"input_tokens":12,"output_tokens":0}}}\n\n'
        b'data: {"type":"message_delta","usage":{"output_tokens":34}}\n\n'
    )
    for path, text in (("/v1/responses", responses), ("/v1/messages", messages)):
        seen, counted = _answer_of(_by_seven(text), _SSE, tmp_path, path, stream=True)
        assert seen == text
        assert counted == _counted(12, 34)


def test_another_usage_that_never_ends_hides_nothing(tmp_path: Path) -> None:
    """As in the tools that an answer repeats."""
    other = b'{"tools":[{"usage":{"description":"%s"}}],' % (b"x" * 10_000)
    text = other + b'"usage":{"input_tokens":12,"output_tokens":34}}'
    pieces = [text[at : at + 1000] for at in range(0, len(text), 1000)]
    seen, counted = _answer_of(pieces, _JSON, tmp_path, "/v1/responses", input="hi")
    assert seen == text
    assert counted == _counted(12, 34)


def test_a_large_answer_is_not_held_back(tmp_path: Path) -> None:
    """Four times what Envoy's buffers hold."""
    content = b"x" * (4 * 2**20)
    text = b'{"choices":[{"message":{"content":"%s"}}],"usage":{"prompt_tokens": 12,' % content
    text += b'"completion_tokens": 34}, "prompt_logprobs":null}'
    pieces = [text[at : at + 50_000] for at in range(0, len(text), 50_000)]
    seen, counted = _answer_of(pieces, _JSON, tmp_path)
    assert seen == text
    assert counted == _counted(12, 34)
