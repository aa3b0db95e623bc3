"""One simulated replica: its engine, its HTTP server, and what the handlers ask of both."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from .engine import Engine
from .faults import Fault, Faults
from .http import Connection, Exchange
from .metrics import Metrics
from .prompts import PromptError
from .request import Request
from .scheduler import Scheduler
from .settings import Settings
from .shared_tier import Tier, tier_of
from .timing import Pace, pace_of

_FAULTS: tuple[Fault, ...] = ("error", "hang", "garbage", "break", "crash")


class Replica:
    """Listens between `start` and `stop`. `crash` ends it as a kill would: the whole process, unless
    it is one of several in it."""

    def __init__(
        self,
        settings: Settings,
        pace: Pace | None = None,
        crash: Callable[[Replica], None] | None = None,
    ) -> None:
        """`pace` replaces what the settings name. Raises FreeholdError for a deployment
        that the catalog does not know."""
        self.settings = settings
        self.faults = Faults()
        self.started = int(time.time())
        limits = settings.limits
        self.metrics = Metrics(
            settings.names[0],
            limits.max_model_len,
            settings.cache_config,
            limits.draft_tokens,
            settings.max_loras,
            self.started,
        )
        self._pace = pace or pace_of(settings.timing)
        self.tier = tier_of(settings.shared_tier, limits)
        loads = self._load if self.tier else self._fetch if settings.handover else None
        scheduler = Scheduler(limits, settings.seed, loads)
        self.engine = Engine(
            settings,
            scheduler,
            self._pace.step,
            self.metrics,
            self.faults,
            self.tier,
        )
        self.format_options = {
            "details": settings.prompt_tokens_details,
            "force_usage": settings.force_usage,
            "engine_id": str(uuid.uuid4()) if settings.handover else None,
        }
        self._link_free = 0.0
        self._crash = crash or (lambda _: os._exit(139))
        self._chance = random.Random(settings.seed)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._steps: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- Life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        from .api import handler_of

        if self.settings.start_seconds:
            await asyncio.sleep(self.settings.start_seconds)
        handle = handler_of(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(handle, self._connections),
            self.settings.host,
            self.settings.port,
            backlog=1024,
        )
        self._steps = loop.create_task(self.engine.run())
        if self.tier:
            self.tier.start()

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As on SIGTERM: what runs gets `--shutdown-timeout` to end, then it is aborted."""
        self.engine.draining = True
        deadline = time.monotonic() + self.settings.shutdown_timeout
        while self.engine.unfinished and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.engine.abort_all()
        if self._server:
            self._server.close()
        for connection in list(self._connections):
            connection.close_when_idle()
        await asyncio.sleep(0)  # what was written goes out
        self._end()

    def kill(self) -> None:
        """Nobody listens any more and every connection breaks off."""
        if self._server:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        self._end()

    def _end(self) -> None:
        for task in (self._steps, *self._tasks):
            if task:
                task.cancel()
        if self.tier:
            self.tier.stop()

    # --- For the handlers -------------------------------------------------------------------------------

    def served(self, model: Any) -> tuple[str, str] | None:
        """The model's name in answers, and the adapter's name or ""; None if it is not served here."""
        if not model or model in self.settings.names:
            return model or self.settings.names[0], ""
        return (model, model) if model in self.settings.adapters else None

    def room_for(self, length: int, for_answer: int = 1) -> int:
        """How many tokens an answer to a prompt of `length` may have. Raises PromptError for none."""
        longest = self.settings.limits.max_model_len
        if length > longest - for_answer:
            raise PromptError(
                f"This model's maximum context length is {longest} tokens. However, your prompt "
                f"contains {length} input tokens, which exceeds this limit even without any output "
                "tokens. Please reduce the length of the input prompt.",
                "input_tokens",
            )
        return longest - length

    def answer_headers(self, exchange: Exchange) -> bytes:
        if not self.settings.request_id_headers:
            return b""
        id = exchange.headers.get("x-request-id", "")
        return b"x-request-id: %s\r\n" % id.encode() if id else b""

    def fault_for(self, body: Mapping[str, Any]) -> Fault | None:
        """What is to go wrong with this request: by the body's own word, or by the replica's rates."""
        if not self.settings.faults:
            return None
        asked = body.get("simulator")
        if isinstance(asked, Mapping) and asked.get("fault") in _FAULTS:
            return asked["fault"]
        return self.faults.strike(self._chance)

    def submit(self, request: Request) -> None:
        """Hand a request to the engine: after its way through the front end, and after asking the
        shared tier what it has of it."""
        request.arrived = time.monotonic()
        self.engine.arriving += 1
        outside = self._pace.outside(self._to_compute(request), self.engine.unfinished)
        delay = outside.seconds(self._chance.random())
        if self.tier and request.chain:
            self._spawn(self._look_up(self.tier, request, delay))
        elif delay:
            asyncio.get_running_loop().call_later(delay, self._enter, request)
        else:
            self._enter(request)

    def _to_compute(self, request: Request) -> int:
        """Tokens of its prompt that this replica has not cached now."""
        found = self.engine.scheduler.pool.match(request.chain)
        return request.prompt - max(request.external, found * self.settings.limits.block_size)

    def _enter(self, request: Request) -> None:
        self.engine.arriving -= 1
        if request.phase == "waiting":  # else its client has left meanwhile
            self.engine.submit(request)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def crash(self) -> None:
        print("simulated crash", file=sys.stderr, flush=True)
        self._crash(self)

    # --- KV caches that another worker has computed -----------------------------------------------------

    def is_handed(self, body: Mapping[str, Any]) -> bool:
        """Whether another worker has read the request's prompt."""
        given = body.get("kv_transfer_params")
        return (
            self.settings.handover is not None
            and isinstance(given, Mapping)
            and bool(given.get("do_remote_prefill"))
        )

    def _fetch(self, request: Request, count: int) -> None:
        """One after the other: they come over one link."""
        assert self.settings.handover is not None
        loop = asyncio.get_running_loop()
        self._link_free = max(loop.time(), self._link_free) + self.settings.handover.seconds(count)
        loop.call_at(self._link_free, self._fetched, request, count)

    def _fetched(self, request: Request, count: int) -> None:
        self.engine.scheduler.loaded(request, count)
        self.engine.wake()

    # --- The shared tier ------------------------------------------------------------------------------

    async def _look_up(self, tier: Tier, request: Request, delay: float) -> None:
        request.external = await tier.found(request.chain)
        await asyncio.sleep(delay)
        self._enter(request)

    def _load(self, request: Request, count: int) -> None:
        assert self.tier is not None
        loop = asyncio.get_running_loop()
        loop.call_later(self.tier.seconds(count), self._loaded, request, count)

    def _loaded(self, request: Request, count: int) -> None:
        # A tier that died meanwhile delivered nothing.
        delivered = count if self.tier and self.tier.connected else 0
        self.engine.scheduler.loaded(request, delivered)
        self.engine.wake()
