"""A server whose latencies are known: it calibrates the load generator, and tests the rest.

    python -m freehold.load.deterministic --ttft-ms 100 --itl-ms 10

It answers as an OpenAI server does, with one token an event and a word for a token (so anybody can
count), and tells in its usage chunk when it really received the request and sent each event: the
timer of this process may be late, and only what it sent is the truth. Faults can be asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

_HEAD = b"HTTP/1.1 %d X\r\ncontent-type: %s\r\n"
_PIECE = b"%x\r\n%s\r\n"


@dataclass
class Behaviour:
    """What the server does. Times in seconds."""

    ttft: float = 0.1
    itl: float = 0.01
    model: str = "deterministic"
    beside: tuple[str, ...] = ()
    """Other names that it answers to: the look-ups of retrieval traffic."""
    key: str | None = None
    role_chunk: bool = True
    """Opens each answer with a chunk that carries only the role, as vLLM does."""
    fault: str | None = None
    """`broken` (not JSON in the middle), `cut` (the connection ends in the middle), `error` (an error
    event), `busy` (503), `die` (the process ends in the middle)."""
    fault_after: int = 0
    """Requests that go well before the fault."""
    seats: int | None = None
    """Streams at a time; more wait for the end of another, as in an engine. None: no limit."""
    streams: int = field(default=0)
    waiting: deque[_Stream] = field(default_factory=deque)
    served: int = field(default=0)
    prompt_tokens: int = field(default=0)
    cached_tokens: int = field(default=0)
    report_cached: int = 0
    """Prompt tokens of every request that it claims to have found in its cache."""
    ttfts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """What it really did since it was last asked, in seconds."""

    def truth(self) -> dict[str, float]:
        """Medians of what was really sent, in milliseconds; asking begins anew."""
        found = {"requests": float(len(self.ttfts))}
        for name, values in (("ttft", self.ttfts), ("itl", self.gaps)):
            found[f"median_{name}_ms"] = statistics.median(values or [0.0]) * 1000
            values.clear()
        return found


def count_tokens(body: dict[str, Any]) -> int:
    """A word is a token; each message and the answer's opening cost one more."""
    if "messages" in body:
        texts = [_said(message.get("content")) for message in body["messages"]]
        tools = len(json.dumps(body["tools"]).split()) if body.get("tools") else 0
        return sum(len(text.split()) for text in texts) + len(texts) + 1 + tools
    for key in ("prompt", "input"):
        if key in body:
            given = body[key]
            texts = given if isinstance(given, list) else [given]
            return sum(len(str(text).split()) for text in texts)
    documents = [str(text) for text in body.get("documents", [])]
    query = str(body.get("query", ""))
    return sum(len(text.split()) for text in documents) + len(query.split()) * len(documents)


def _said(content: Any) -> str:
    """A message's text, be it plain or in parts."""
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content)
    return content or ""


class Connection(asyncio.Protocol):
    """One client connection: requests one after another, answers timed by the loop's clock."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._stream:
            self._stream.give_up()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (li.partition(":") for li in lines[1:])
        }
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        received = time.perf_counter()
        self._answer(lines[0].split(" ")[1].partition("?")[0], headers, rest[:length], received)

    def _answer(self, path: str, headers: dict[str, str], raw: bytes, received: float) -> None:
        server = self._behaviour
        if server.key and headers.get("authorization") != f"Bearer {server.key}":
            return self._send(401, _error("Invalid API key.", "invalid_request_error"))
        if path == "/health":
            return self._send(200, {})
        if path == "/truth":
            return self._send(200, server.truth())
        if path == "/metrics":
            return self._send_text(_metrics(server))
        if path == "/v1/models":
            model = {"id": server.model, "object": "model", "max_model_len": 1_000_000}
            return self._send(200, {"object": "list", "data": [model]})
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return self._send(400, _error("not JSON", "invalid_request_error"))
        if body.get("model", server.model) not in (server.model, *server.beside):
            said = f"The model `{body['model']}` does not exist."
            return self._send(404, _error(said, "NotFoundError"))
        if path == "/tokenize":
            count = count_tokens(body)
            return self._send(200, {"count": count, "tokens": [0] * count})
        return self._generate(path, body, received)

    def _generate(self, path: str, body: dict[str, Any], received: float) -> None:
        server = self._behaviour
        server.served += 1
        prompt = count_tokens(body)
        server.prompt_tokens += prompt
        server.cached_tokens += min(server.report_cached, prompt)
        fault = server.fault if server.served > server.fault_after else None
        if fault == "busy":
            return self._send(503, _error("The queue is full.", "overloaded_error"))
        tokens = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        counts = {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
            "prompt_tokens_details": {"cached_tokens": min(server.report_cached, prompt)},
        }
        if not body.get("stream"):
            answer = _whole(path, body, counts)
            self._timer = self._loop.call_at(received + server.ttft, self._send, 200, answer)
            return None
        stream = _Stream(self, path.endswith("chat/completions"), counts, received, fault)
        self._transport.write(
            _HEAD % (200, b"text/event-stream") + b"transfer-encoding: chunked\r\n\r\n"
        )
        self._stream = stream
        stream.arrive()
        return None

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        data = orjson.dumps(answer)
        head = _HEAD % (status, b"application/json")
        self._transport.write(head + b"content-length: %d\r\n\r\n%s" % (len(data), data))

    def _send_text(self, text: str) -> None:
        data = text.encode()
        head = _HEAD % (200, b"text/plain; version=0.0.4")
        self._transport.write(head + b"content-length: %d\r\n\r\n%s" % (len(data), data))


class _Stream:
    """One answer: an event at received + ttft + n * itl, by the loop's timer."""

    def __init__(
        self,
        connection: Connection,
        chat: bool,
        counts: dict[str, Any],
        received: float,
        fault: str | None,
    ) -> None:
        self._connection = connection
        self._chat = chat
        self._counts = counts
        self._received = received
        self._fault = fault
        self._sent: list[float] = []
        self._tokens: int = counts["completion_tokens"]
        delta = {"content": "word "}
        choice = {"index": 0, "delta": delta} if chat else {"index": 0, "text": "word "}
        self._event = _event({**self._base(), "choices": [{**choice, "finish_reason": None}]})

    def arrive(self) -> None:
        server = self._connection._behaviour
        if server.seats is not None and server.streams >= server.seats:
            server.waiting.append(self)
        else:
            self._begin(self._received)

    def _begin(self, at: float) -> None:
        self._connection._behaviour.streams += 1
        self._began = at
        if self._chat and self._connection._behaviour.role_chunk:
            delta = {"role": "assistant", "content": ""}
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            self._write(_event({**self._base(), "choices": [choice]}))
        self._schedule(self._began + self._connection._behaviour.ttft)

    def _schedule(self, at: float) -> None:
        self._connection._timer = self._connection._loop.call_at(at, self._next)

    def _next(self) -> None:
        if self._fault and len(self._sent) == self._tokens // 2:
            return self._break()
        self._write(self._event)
        self._sent.append(time.perf_counter())
        if len(self._sent) == self._tokens:
            return self._end()
        behaviour = self._connection._behaviour
        self._schedule(self._began + behaviour.ttft + len(self._sent) * behaviour.itl)
        return None

    def _end(self) -> None:
        server, sent = self._connection._behaviour, self._sent
        server.ttfts.append(sent[0] - self._received)
        server.gaps += [after - before for before, after in itertools.pairwise(sent)]
        usage = {**self._base(), "choices": [], "usage": self._counts}
        usage["truth"] = {"received": self._received, "sent": self._sent}
        done = b"data: [DONE]\n\n"
        last = _event(usage) + _PIECE % (len(done), done) + b"0\r\n\r\n"
        self._write(last)
        self._leave()

    def give_up(self) -> None:
        """The client has hung up."""
        if self in self._connection._behaviour.waiting:
            self._connection._behaviour.waiting.remove(self)
            self._connection._stream = None
        else:
            self._leave()

    def _leave(self) -> None:
        server = self._connection._behaviour
        self._connection._stream = None
        server.streams -= 1
        if server.waiting:
            server.waiting.popleft()._begin(time.perf_counter())

    def _break(self) -> None:
        self._leave()
        if self._fault == "die":
            sys.exit(1)
        if self._fault == "cut":
            self._connection._transport.close()
            return
        said: Any = {"error": {"message": "out of memory", "code": 500}}
        data = orjson.dumps(said) if self._fault == "error" else b'{"choices": [{"delta": {'
        line = b"data: " + data + b"\n\n"
        self._write(_PIECE % (len(line), line) + b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        self._connection._transport.write(data)

    def _base(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        model = self._connection._behaviour.model
        return {"id": "cmpl-0123456789abcdef0123456789abcdef", "object": kind, "model": model}


def _event(chunk: dict[str, Any]) -> bytes:
    line = b"data: " + orjson.dumps(chunk) + b"\n\n"
    return _PIECE % (len(line), line)


def _whole(path: str, body: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
    if path.endswith("embeddings"):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"index": n, "embedding": [0.5, 0.5]} for n in range(len(texts))]
        return {"data": data, "usage": {"prompt_tokens": counts["prompt_tokens"]}}
    if path.endswith("rerank"):
        documents = body["documents"]
        results = [{"index": n, "relevance_score": 1 / (n + 1)} for n in range(len(documents))]
        return {"results": results, "usage": {"prompt_tokens": counts["prompt_tokens"]}}
    text = "word " * counts["completion_tokens"]
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "text": text}], "usage": counts}


def _metrics(server: Behaviour) -> str:
    """The few engine metrics that the load test reads, as vLLM names them."""
    labels = f'{{engine="0",model_name="{server.model}"}}'
    values = {
        "vllm:prefix_cache_queries_total": server.prompt_tokens,
        "vllm:prefix_cache_hits_total": server.cached_tokens,
        "vllm:num_requests_running": 0,
    }
    return "".join(f"{name}{labels} {value}\n" for name, value in values.items())


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


async def serve(behaviour: Behaviour, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(behaviour), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, lambda: stopped.done() or stopped.set_result(None))
    await stopped


@contextmanager
def deterministic_server(*options: str) -> Iterator[str]:
    """The server in a process of its own while the context lasts; yields its URL (without /v1)."""
    command = [sys.executable, "-m", "freehold.load.deterministic", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        port = process.stdout.readline().strip()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)
        assert process.stdout
        process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed")
    parser.add_argument("--ttft-ms", type=float, default=100.0)
    parser.add_argument("--itl-ms", type=float, default=10.0)
    parser.add_argument("--model", default="deterministic")
    parser.add_argument("--beside", action="append", default=[], help="another model's name")
    parser.add_argument("--key")
    parser.add_argument("--no-role-chunk", action="store_true")
    parser.add_argument("--fault", choices=("broken", "cut", "error", "busy", "die"))
    parser.add_argument("--fault-after", type=int, default=0, help="requests that go well before")
    parser.add_argument("--seats", type=int, help="streams at a time; none: no limit")
    parser.add_argument("--report-cached", type=int, default=0)
    options = parser.parse_args()
    behaviour = Behaviour(
        ttft=options.ttft_ms / 1000,
        itl=options.itl_ms / 1000,
        model=options.model,
        beside=tuple(options.beside),
        key=options.key,
        role_chunk=not options.no_role_chunk,
        fault=options.fault,
        fault_after=options.fault_after,
        report_cached=options.report_cached,
        seats=options.seats,
    )
    asyncio.run(serve(behaviour, options.port))


if __name__ == "__main__":
    main()
