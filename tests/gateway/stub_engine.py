"""A stand-in for vLLM's HTTP server: every endpoint, deterministic answers, and faults on demand.

All engines live on one event loop in a thread of the test process. What a request asks of the stub
itself is in its body under `stub`: `{"hold": true}` waits for `release` before it goes on (a stream after
its first event, any other answer before its first byte)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from freehold.gateway.names import PICKER_AGENT

Json = dict[str, Any]


@dataclass
class Seen:
    """One request as the engine got it."""

    path: str
    headers: dict[str, str]
    body: bytes
    state: Literal["running", "answered", "gone"] = "running"
    """`gone`: the other side closed the connection before the answer ended."""

    @property
    def id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def json(self) -> Json:
        return json.loads(self.body)


@dataclass(eq=False)
class StubEngine:
    name: str
    models: tuple[str, ...]
    """Names it was started with; it knows no other, as vLLM."""
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    busy: bool = False
    """Every request is answered as vLLM does when its queue is full."""
    dies_on_request: bool = False
    """Takes the whole request, then closes the connection without a byte."""
    handoff: Json | None = None
    """As an engine that only reads prompts: how another gets the KV cache from it."""
    speaks_garbage: bool = False
    """Answers with what is no HTTP."""
    _held: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)

    def running(self) -> list[Seen]:
        return [request for request in self.seen if request.state == "running"]

    def start(self) -> None:
        _on_loop(self._start())

    def stop(self) -> None:
        """As a kill: nobody listens any more, and open connections break off."""
        _on_loop(self._stop())

    def release(self) -> None:
        """Lets everything go on that is held now."""
        _on_loop(self._release())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in self._connections:
            writer.transport.abort()

    async def _release(self) -> None:
        self._held.set()
        self._held = asyncio.Event()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (request := await _read_request(reader)) is not None:
                if request.path == "/health":
                    writer.write(_http(200, b""))
                    continue
                if request.headers.get("user-agent") != PICKER_AGENT:
                    self.seen.append(request)
                if self.dies_on_request:
                    request.state = "gone"
                    return
                if self.speaks_garbage:
                    writer.write(b"no answer of a web server\r\n\r\n")
                    await writer.drain()
                    return
                await self._answer(request, reader, writer)
                request.state = "answered"
        except (OSError, asyncio.IncompleteReadError, _GoneError):
            for request in self.seen:
                if request.state == "running" and writer.transport.is_closing():
                    request.state = "gone"
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(
        self, request: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.busy:
            busy = _error("The request queue is full.", "ServiceUnavailableError", 503)
            writer.write(_http(503, json.dumps(busy).encode()))
            return
        try:
            body = request.json
        except ValueError:
            body = {}
        hold = bool(body.get("stub", {}).get("hold"))
        if "model" in body and body["model"] not in self.models:
            unknown = _error(f"The model `{body['model']}` does not exist.", "NotFoundError", 404)
            writer.write(_http(404, json.dumps(unknown).encode()))
            return
        if body.get("stream"):
            writer.write(
                _http_head(200, "text/event-stream") + b"transfer-encoding: chunked\r\n\r\n"
            )
            for number, event in enumerate(_events(self.name, body)):
                if hold and number == 1:
                    await self._wait(request, reader, writer)
                data = f"data: {event}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            if hold:
                await self._wait(request, reader, writer)
            answer = json.dumps(self._reply(request.path, body)).encode()
            writer.write(_http(200, answer))
        await writer.drain()

    def _reply(self, path: str, body: Json) -> Json:
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]}
        answer = _answer_to(path, body, self.name)
        return {**answer, "kv_transfer_params": self.handoff} if self.handoff else answer

    async def _wait(
        self, request: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until released, or until the other side has gone."""
        held = asyncio.create_task(self._held.wait())
        closed = asyncio.create_task(reader.read(1))
        await asyncio.wait((held, closed), return_when=asyncio.FIRST_COMPLETED)
        held.cancel()
        if closed.done():
            request.state = "gone"
            raise _GoneError
        closed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closed


class _GoneError(Exception):
    """The other side closed the connection."""


def _answer_to(path: str, body: Json, engine: str) -> Json:
    model = body.get("model", "")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    base: Json = {"id": f"{engine}-1", "created": 1, "model": model, "usage": usage}
    match path:
        case "/v1/chat/completions":
            choice = {"index": 0, "message": _message(body, engine), "finish_reason": "stop"}
            return {**base, "object": "chat.completion", "choices": [choice]}
        case "/v1/completions":
            choice = {"index": 0, "text": f"by {engine}", "finish_reason": "stop"}
            return {**base, "object": "text_completion", "choices": [choice]}
        case "/v1/responses":
            text = {"type": "output_text", "text": f"by {engine}", "annotations": []}
            item = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
            return {**base, "object": "response", "output": [{**item, "content": [text]}]}
        case "/v1/messages":
            return {**base, "type": "message", "content": [{"type": "text", "text": engine}]}
        case "/v1/embeddings":
            vector: Any = [0.5, -0.25]
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack("<2f", *vector)).decode()
            data = [{"object": "embedding", "index": 0, "embedding": vector}]
            return {**base, "object": "list", "data": data}
        case "/v1/rerank" | "/rerank":
            results = [
                {"index": index, "relevance_score": 1 / (index + 1), "document": {"text": text}}
                for index, text in enumerate(body.get("documents", []))
            ]
            return {**base, "results": results}
        case "/v1/score" | "/score":
            return {**base, "object": "list", "data": [{"index": 0, "score": 0.5}]}
        case "/tokenize":
            return {"count": 3, "max_model_len": 4096, "tokens": [1, 2, 3]}
        case "/detokenize":
            return {"prompt": "abc"}
    return {"reached": path}  # an engine's admin paths answer whoever reaches them


def _message(body: Json, engine: str) -> Json:
    if body.get("tools"):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
        call = {"id": "call-1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    content = json.dumps(_instance_of(schema)) if schema else f"by {engine}"
    return {"role": "assistant", "content": content}


def _instance_of(schema: Json) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _instance_of(part) for name, part in schema["properties"].items()}
    return {"integer": 1, "number": 1.5, "boolean": True}.get(schema.get("type", ""), "text")


def _events(engine: str, body: Json) -> Iterator[str]:
    base = {"id": f"{engine}-1", "object": "chat.completion.chunk", "created": 1}
    base["model"] = body["model"]
    for place, word in enumerate(("by ", engine, ".")):
        delta = {"role": "assistant", "content": word} if place == 0 else {"content": word}
        yield json.dumps({**base, "choices": [{"index": 0, "delta": delta}]})
    if body.get("stream_options", {}).get("include_usage"):
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        yield json.dumps({**base, "choices": [], "usage": usage})
    yield "[DONE]"


def _error(message: str, kind: str, code: int) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _http_head(status: int, content_type: str = "application/json") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %s\r\n" % (status, content_type.encode())


def _http(status: int, body: bytes) -> bytes:
    return _http_head(status) + b"content-length: %d\r\n\r\n%s" % (len(body), body)


async def _read_request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif length := int(headers.get("content-length", 0)):
        body = await reader.readexactly(length)
    return Seen(first.split(" ")[1], headers, body)


_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, name="stub engines", daemon=True).start()


def _on_loop(work: Coroutine[Any, Any, None]) -> None:
    future: Future[None] = asyncio.run_coroutine_threadsafe(work, _loop)
    future.result(timeout=10)
