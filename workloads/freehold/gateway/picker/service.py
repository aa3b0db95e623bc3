"""The picker as a gRPC service: one stream a request, open until its answer ends, which makes the counts
of requests in flight exact."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from freehold.gateway.model import join_address
from freehold.gateway.names import MODEL

from . import metrics
from .config import PickerConfig, PoolConfig
from .fleet import Fleet
from .policy import Pick, Worker, by_prefix, by_session
from .prompt import Prompt, known_of, prompt_of, read
from .protocol import (
    Message,
    RequestBody,
    RequestHeaders,
    ResponseHeaders,
    decode,
    goes_on,
    routed,
)
from .reports import decode as decode_reports
from .reports import takes_reports


class Picker:
    """Knows the pools and picks their workers."""

    def __init__(self, config: PickerConfig, fleet: Fleet) -> None:
        self.fleet = fleet
        self._replicas = config.replicas
        self._by_name = {pool.name: pool for pool in config.pools}
        self._by_model = {name: pool for pool in config.pools for name in pool.served}

    def pool_for(self, model: str, lot: int | None) -> tuple[PoolConfig | None, bool]:
        """The pool that is to answer (None: no worker of it is ours to pick), and whether the lot was
        taken back: a newcomer without a worker costs nobody an answer."""
        pool = self._by_model.get(model)
        share = pool.share if pool else None
        if pool is None or share is None or pool.served[model] != share.of:
            return pool, False
        if lot is None or lot >= share.below:
            return pool, False
        if share.pool is None:
            return None, False
        return (self._by_name[share.pool], False) if self.fleet.up(share.pool) else (pool, True)

    def chooses(self, pool: PoolConfig) -> bool:
        """Whether the choice is the picker's. Envoy's own policies do not know who is left out."""
        return pool.policy == "prefix" or self.fleet.leaves_out(pool.name)

    def choose(self, pool: PoolConfig, prompt: Prompt, session: str | None) -> list[Worker]:
        """The worker to try, and the one to retry on; none where all are away."""
        workers = self.fleet.up(pool.name)
        if not workers:
            return []
        pick = self._pick(workers, prompt, session)
        _count(pool, pick, prompt, session)
        pick.worker.index.add(prompt.chain)
        workers.remove(pick.worker)
        second = [self._pick(workers, prompt, session).worker] if workers else []
        return [pick.worker, *second]

    def _pick(self, workers: list[Worker], prompt: Prompt, session: str | None) -> Pick:
        if session:
            return by_session(workers, session, prompt)
        return by_prefix(workers, prompt, self._replicas)


class Request:
    """One request on its way through: picked, served, ended."""

    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._session: str | None = None
        self._lot: int | None = None
        self._pool: PoolConfig | None = None
        self._prompt: Prompt | None = None
        self._worker: Worker | None = None

    def answer(self, message: Message) -> bytes:
        match message:
            case RequestHeaders(session, lot):
                self._session, self._lot = session, lot
            case RequestBody(content):
                return self._pick(content) or goes_on(message)
            case ResponseHeaders(upstream):
                self._served_by(upstream)
        return goes_on(message)

    def end(self) -> None:
        if self._worker:
            self._worker.ended += 1
        self._count_at(None)

    def _pick(self, content: bytes) -> bytes | None:
        """None where the body is no JSON object with a model: Envoy refuses it in its own words."""
        body = read(content)
        model = body.get(MODEL) if body else None
        if body is None or not isinstance(model, str) or not model:
            return None
        self._pool, taken_back = self._picker.pool_for(model, self._lot)
        workers: list[Worker] = []
        if self._pool and self._picker.chooses(self._pool):
            served = self._pool.served
            self._prompt = prompt_of(body, served.get(model) or served[self._pool.name])
            workers = self._picker.choose(self._pool, self._prompt, self._session)
            self._count_at(workers[0] if workers else None)
        addresses = [worker.address for worker in workers]
        return routed(known_of(body), addresses, lot_taken_back=taken_back)

    def _served_by(self, upstream: str) -> None:
        """A retry, a pin or Envoy's own policy may have sent it elsewhere than was picked."""
        if self._pool is None:
            return
        worker = self._picker.fleet.at(self._pool.name, upstream)
        if worker is None or worker is self._worker:
            return
        if self._prompt is not None:
            worker.index.add(self._prompt.chain)
            metrics.ELSEWHERE.labels(self._pool.name).inc()
        self._count_at(worker)

    def _count_at(self, worker: Worker | None) -> None:
        if self._worker:
            self._worker.in_flight -= 1
        if worker:
            worker.in_flight += 1
        self._worker = worker


@asynccontextmanager
async def serve_grpc(config: PickerConfig, fleet: Fleet) -> AsyncIterator[None]:
    """Serves the Endpoint Picker Protocol, and gRPC's health check."""
    picker = Picker(config, fleet)

    async def process(_: object, stream: grpc.aio.ServicerContext[Message, bytes]) -> None:
        request = Request(picker)
        try:
            while isinstance(message := await stream.read(), Message):
                await stream.write(request.answer(message))
        finally:
            request.end()

    # A body comes in one message; what surrounds it is far below 1 MiB.
    largest = config.max_body_bytes + 2**20
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", largest)])
    server.add_generic_rpc_handlers(
        (
            _service(
                "envoy.service.ext_proc.v3.ExternalProcessor",
                Process=grpc.stream_stream_rpc_method_handler(process, decode),  # pyright: ignore
            ),
            _service(
                "envoy.service.accesslog.v3.AccessLogService",
                StreamAccessLogs=grpc.stream_unary_rpc_method_handler(
                    takes_reports(fleet),  # pyright: ignore
                    decode_reports,
                ),
            ),
            _service("grpc.health.v1.Health", Check=grpc.unary_unary_rpc_method_handler(_serving)),
        )
    )
    server.add_insecure_port(join_address(*config.grpc))
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


def _service(name: str, **methods: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(name, methods)


async def _serving(_: bytes, __: object) -> bytes:
    """grpc.health.v1.HealthCheckResponse with status SERVING."""
    return b"\x08\x01"


def _count(pool: PoolConfig, pick: Pick, prompt: Prompt, session: str | None) -> None:
    reason = "session" if session else "prefix" if pick.matched else "new"
    metrics.PICKS.labels(pool.name, pick.worker.name, reason).inc()
    metrics.CHUNKS.labels(pool.name).inc(len(prompt.chain))
    metrics.MATCHED.labels(pool.name).inc(pick.matched)
