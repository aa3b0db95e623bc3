"""An engine that notes whatever should not have reached it.

It reads HTTP by the letter, with no tolerance, so that a request which the gateway understood otherwise
than an engine would shows up as a fault; then it looks at what came, as vLLM will read it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from freehold.gateway.names import PICKER_AGENT

from ..running import KEY, LEFT, LIMITED, NARROW, RIGHT
from ..stub_engine import Seen, StubEngine

FORGED = "forged"
"""What cases put into headers that no client may set; nothing with it may arrive."""
_TOKEN = rb"[!#$%&'*+.^_`|~0-9a-z-]+"
_HEAD = re.compile(
    rb"(?P<method>[A-Z]+) (?P<path>/[!-~]*) HTTP/1\.1\r\n"
    rb"(?P<headers>(" + _TOKEN + rb": ?[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_ONCE = ("host", "content-type", "x-request-id")
# Set by Envoy and the picker, never by a client.
_OURS = re.compile(r"x-gateway-(lot|prefix|destination-endpoint)|x-envoy-external-address")
_NEVER = ("authorization", "transfer-encoding", "connection", "upgrade", "keep-alive")
# Headers by which vLLM takes orders from a router in front of it.
_ORDERS = ("x-vllm-priority", "x-data-parallel-rank", "endpoint-load-metrics-format")
_COUNTED = ("/v1/chat/completions", "/v1/completions")
_SALTS = {
    "acme": "tenant-acme",
    "limited": "tenant-limited",
    "narrow": "tenant-narrow",
    "left": "group-both",
    "right": "group-both",
}
# Envoy writes every name in small letters: no client can say this.
_PICKER = f"User-Agent: {PICKER_AGENT}\r\n".encode()
_BOOLEAN = TypeAdapter(bool)


@dataclass(eq=False)
class StrictEngine(StubEngine):
    paths: tuple[str, ...] = ()
    """That its pool answers."""
    sealed: bool = True
    faults: list[str] = field(default_factory=list)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while head := await _head(reader):
                if head.startswith(b"GET /health HTTP/1.1\r\n"):
                    writer.write(_answer({}))
                    continue
                if _PICKER in head:
                    await self._to_picker(head, reader, writer)
                    return
                request = await self._request(head, reader)
                if request is None:
                    return
                self.seen.append(request)
                self.faults += [f"{self.name}: {fault}" for fault in self._faults_of(request)]
                usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
                writer.write(_answer({"by": self.name, "usage": usage}))
                request.state = "answered"
        except (OSError, asyncio.IncompleteReadError) as error:
            self.faults.append(f"{self.name}: a request broke off: {error}")
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _to_picker(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Its own question, which no gateway has touched: on a slow machine any engine looks ill."""
        _, _, length = head.lower().partition(b"content-length: ")
        await reader.readexactly(int(length.split(b"\r\n")[0]))
        writer.write(_answer({}))
        await writer.drain()

    async def _request(self, head: bytes, reader: asyncio.StreamReader) -> Seen | None:
        parts = _HEAD.fullmatch(head)
        if parts is None:
            self.faults.append(f"{self.name}: no HTTP/1.1 by the letter: {head!r}")
            return None
        lines = [line.split(b":", 1) for line in parts["headers"].split(b"\r\n")[:-1]]
        headers = {name.decode(): value.strip().decode("latin-1") for name, value in lines}
        names = [name.decode() for name, _ in lines]
        for name in (*_ONCE, "content-length"):
            if names.count(name) > 1:
                self.faults.append(f"{self.name}: {name} came twice: {head!r}")
        if parts["method"] != b"POST" or not headers.get("content-length", "").isdigit():
            self.faults.append(f"{self.name}: no POST with a length: {head!r}")
            return None
        body = await reader.readexactly(int(headers["content-length"]))
        return Seen(parts["path"].decode(), headers, body)

    def _faults_of(self, request: Seen) -> list[str]:
        faults = []
        path, _, _ = request.path.partition("?")
        if path not in self.paths:
            faults.append(f"{request.path} is not served here")
        headers = request.headers
        if headers["host"] != "engine":
            faults.append(f"host: {headers['host']}")
        for name, value in headers.items():
            internal = name.startswith(("x-envoy-", "x-gateway-")) and not _OURS.fullmatch(name)
            if internal or name in _NEVER or name in _ORDERS or FORGED in value:
                faults.append(f"header {name}: {value}")
            if any(key in value for key in (KEY, LEFT, RIGHT, NARROW, LIMITED)):
                faults.append(f"the key, in {name}")
        body = as_vllm_reads(request.body)
        if body is not None:
            faults += self._faults_of_body(path, body, request)
        return faults

    def _faults_of_body(self, path: str, body: Any, request: Seen) -> list[str]:
        if not isinstance(body, dict):
            return [f"no JSON object: {request.body[:200]!r}"]
        faults = []
        tenant = tenant_of(request.id)
        if self.sealed and body.get("cache_salt") != _SALTS[tenant]:
            faults.append(f"salt {body.get('cache_salt')!r} of {tenant}: {request.body[-200:]!r}")
        if body.get("model") not in self.models:
            faults.append(f"model {body.get('model')!r}")
        if tenant == "narrow" and body.get("model") != "embed":
            faults.append(f"a model that is not for this key: {body.get('model')!r}")
        if path in _COUNTED and streams(body):
            options = body.get("stream_options")
            if not isinstance(options, dict) or not is_true(options.get("include_usage")):
                faults.append(f"a stream that nobody counts: {request.body[-200:]!r}")
        return faults


def as_vllm_reads(body: bytes) -> Any:
    """FastAPI's reading of a body (Starlette's `Request.json`); None where it answers 400."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_true(value: Any) -> bool:
    """What pydantic takes for true in a field that is a boolean."""
    try:
        return _BOOLEAN.validate_python(value)
    except ValidationError:
        return False


def streams(body: dict[str, Any]) -> bool:
    return is_true(body.get("stream"))


def tenant_of(request_id: str) -> str:
    """Cases that ask as somebody else say so at the beginning of the request's id."""
    return request_id.partition(":")[0] if ":" in request_id else "acme"


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


def _answer(body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(text) + text
