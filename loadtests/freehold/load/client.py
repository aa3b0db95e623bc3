"""One streamed request under gevent, each event timed as it arrives.

Locust's own streaming helper reads blocks of 1,024 bytes and waits until each is full, so several
events seem to come at once (an ITL of 0 was measured where it was 20 ms, 2026-11-23). `readline` of
the response returns as soon as a line is there.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import gevent
import orjson
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPParseError, HTTPSocketPoolResponse

from .events import DONE, BrokenStreamError, Usage, decode, is_output, payload, usage_of
from .record import RequestRecord

# Sockets kept open at most; each request in flight needs one, and nothing waits for one below it.
_SOCKETS = 20_000
_BLOCK = 16 * 1024
# An answer that is refused is told by its first characters.
_SHOWN = 300


@dataclass(slots=True)
class Call:
    """One request as the traffic wants it. `body` lacks only the model."""

    name: str
    path: str
    model: str
    body: dict[str, Any]
    streamed: bool = True
    asked_input: int | None = None
    asked_output: int | None = None
    reusable: int = 0
    session: str | None = None
    turn: int = 0
    pause: float = 0.0
    """Seconds to wait before it: a tool at work between two turns of an agent."""
    cancel_after: int | None = None
    """Hang up after so many output events."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Waiting:
    """One request in flight, and when something of it last arrived."""

    greenlet: Any
    record: RequestRecord
    heard: float
    done: bool = False


class StreamingClient:
    """Sends calls to one server over kept connections. Safe for any number of greenlets.

    `timeout`: seconds without a single byte after which a request has failed. An exception never
    leaves `send`: what went wrong is in the record.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout: float = 600.0) -> None:
        parts = urlsplit(base_url)
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        secure = parts.scheme == "https"
        self._http = HTTPClient(
            parts.hostname or "",
            parts.port,
            concurrency=_SOCKETS,
            connection_timeout=30.0,
            # A timer a read costs 10 of 40 microseconds an event (2026-11-24): one greenlet looks
            # after all requests instead.
            network_timeout=None,  # type: ignore[arg-type]
            block_size=_BLOCK,
            ssl=secure,
            ssl_context_factory=ssl.create_default_context if secure else None,
        )
        # identity: a gateway that compresses would hold events back to fill its blocks.
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._waiting: set[_Waiting] = set()
        self._guard: gevent.Greenlet | None = None
        self._outputs = 0

    @property
    def outputs(self) -> int:
        """Output events so far, those of requests in flight too."""
        return self._outputs + sum(_events(each.record) for each in self._waiting)

    def send(self, call: Call, intended: float | None = None) -> RequestRecord:
        """Do one call and return what was measured."""
        record = RequestRecord(
            name=call.name,
            started=time.perf_counter(),
            intended=intended,
            asked_input=call.asked_input,
            asked_output=call.asked_output,
            reusable=call.reusable,
            session=call.session,
            turn=call.turn,
        )
        response: HTTPSocketPoolResponse | None = None
        waiting = _Waiting(gevent.getcurrent(), record, record.started)
        self._waiting.add(waiting)
        if self._guard is None:
            self._guard = gevent.spawn(self._watch)
        try:
            response = self._http.request(
                "POST", self._prefix + call.path, _encode(call), self._headers | call.headers
            )
            waiting.heard = time.perf_counter()
            self._receive(response, call, record, waiting)
        except BrokenStreamError as error:
            _fail(record, "broken stream", str(error))
        except HTTPParseError as error:
            _fail(record, "disconnected", str(error) or type(error).__name__)
        except TimeoutError as error:
            _fail(record, "timeout", str(error))
        except ssl.SSLError as error:
            _fail(record, "tls", str(error))
        except ConnectionRefusedError as error:
            _fail(record, "refused", str(error))
        except OSError as error:
            _fail(record, "disconnected", str(error))
        finally:
            waiting.done = True
            self._waiting.discard(waiting)
            self._outputs += _events(record)
            if response is not None:
                with contextlib.suppress(OSError):
                    response.release()
        return record

    def close(self) -> None:
        if self._guard is not None:
            self._guard.kill()
        self._http.close()

    def _watch(self) -> None:
        """For ever: end what has been silent for too long."""
        while True:
            gevent.sleep(min(1.0, self._timeout / 4))
            silent = time.perf_counter() - self._timeout
            for waiting in [each for each in self._waiting if each.heard < silent]:
                gevent.get_hub().loop.run_callback(self._expire, waiting)

    def _expire(self, waiting: _Waiting) -> None:
        """Runs between all greenlets, so that the request cannot end while it is being ended."""
        if not waiting.done:
            waiting.greenlet.throw(TimeoutError(f"no byte for {self._timeout:g} s"))

    def _receive(
        self,
        response: HTTPSocketPoolResponse,
        call: Call,
        record: RequestRecord,
        waiting: _Waiting,
    ) -> None:
        record.status = response.status_code
        worker = response.get("x-freehold-worker")
        record.worker = worker if isinstance(worker, str) else None
        if record.status != 200:
            said = response.read().decode("utf-8", "replace")
            _fail(record, f"http {record.status}", _message(said))
        elif call.streamed:
            _read_stream(response, call, record, waiting)
        else:
            _read_whole(response, record)


def _events(record: RequestRecord) -> int:
    return 0 if record.ttft is None else len(record.itls) + 1


def _encode(call: Call) -> bytes:
    return orjson.dumps({"model": call.model, **call.body})


def _read_stream(
    response: HTTPSocketPoolResponse, call: Call, record: RequestRecord, waiting: _Waiting
) -> None:
    """The hot loop: one turn an event line. Times are taken before anything is decoded."""
    clock = time.perf_counter
    readline = response.readline
    itls = record.itls
    previous = 0.0
    finished = False
    while line := readline(b"\n"):
        now = waiting.heard = clock()
        data = payload(line)
        if data is None:
            continue
        if data == DONE:
            finished = True
            continue
        chunk = decode(data)
        choices = chunk.get("choices")
        if not choices:
            _count(record, usage_of(chunk))
            record.truth = chunk.get("truth")
            continue
        choice = choices[0]
        if reason := choice.get("finish_reason"):
            record.finish_reason = reason
        if not is_output(choice):
            continue
        if record.ttft is None:
            record.ttft = now - record.started
        else:
            itls.append(now - previous)
        previous = now
        if call.cancel_after is not None and len(itls) + 1 >= call.cancel_after:
            record.cancelled = True
            break
    if record.ttft is not None:
        record.latency = previous - record.started
    if record.cancelled:
        return
    if not finished:
        raise BrokenStreamError("the stream ended without [DONE]")
    if record.ttft is None:
        raise BrokenStreamError("the stream ended without any output")


def _read_whole(response: HTTPSocketPoolResponse, record: RequestRecord) -> None:
    """An answer that is not streamed: embeddings, rerank."""
    data = response.read()
    record.latency = time.perf_counter() - record.started
    _count(record, usage_of(decode(data)))


def _count(record: RequestRecord, usage: Usage | None) -> None:
    if usage is not None:
        record.prompt_tokens = usage.prompt_tokens
        record.output_tokens = usage.output_tokens
        record.cached_tokens = usage.cached_tokens


def _fail(record: RequestRecord, kind: str, message: str) -> None:
    record.error_kind = kind
    record.error = message[:_SHOWN]
    if record.latency is None:
        record.latency = time.perf_counter() - record.started


def _message(body: str) -> str:
    """What an OpenAI-shaped error says; anything else as it is."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        error: Mapping[str, Any] = orjson.loads(body)["error"]
        return str(error["message"])
    return body
