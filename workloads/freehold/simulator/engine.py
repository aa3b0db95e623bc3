"""The engine core in real time: runs the scheduler's steps, each for as long as the model says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic  # uvloop's own clock ticks in milliseconds

from .faults import Faults
from .metrics import Metrics
from .request import Request
from .scheduler import Scheduler, Step
from .settings import Settings
from .shared_tier import Tier
from .virtual import StepTime

# Steps end on absolute deadlines, so that a late one is made up for by the next. A machine that falls
# this far behind will not catch up: the clock is set anew and the delay is told (`late_seconds`).
_HOPELESS_SECONDS = 1.0


class BusyError(Exception):
    """A queue limit is reached."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Clock:
    """How well real time kept to the model: seconds of steps, as modelled and as they were."""

    steps: int = 0
    modelled_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    late_seconds: float = 0.0
    """Time given up because the machine could not keep pace."""


class Engine:
    """One replica's core. Everything happens on the event loop that `run` runs on."""

    def __init__(
        self,
        settings: Settings,
        scheduler: Scheduler,
        step_time: StepTime,
        metrics: Metrics,
        faults: Faults,
        tier: Tier | None = None,
    ) -> None:
        """`tier` is told what was computed: the prompt's KV, and at the end the answer's."""
        self.settings = settings
        self.scheduler = scheduler
        self.metrics = metrics
        self.faults = faults
        self.clock = Clock()
        self.sleep_level: int | None = None
        self.draining = False
        self.arriving = 0
        """Requests on their way from the front end to the scheduler."""
        self._step_time = step_time
        self._tier = tier
        self._work = asyncio.Event()

    # --- For the API ------------------------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        return self.arriving + self.scheduler.unfinished

    def admit(self) -> None:
        """Raises BusyError when one more request would exceed a limit, as vLLM's front end does:
        `--max-num-queued-reqs` bounds all unfinished requests, running ones included."""
        limits = self.settings.limits
        most = limits.max_queued_requests
        if most is not None and self.unfinished + 1 > most:
            self._reject("max_num_queued_reqs")
        most = limits.max_queued_tokens
        if most is not None and self.scheduler.queued_tokens >= most:
            self._reject("max_num_queued_tokens")

    def _reject(self, reason: str) -> None:
        self.metrics.add("vllm:admission_rejections", 1, reason)
        raise BusyError(reason)

    def submit(self, request: Request) -> None:
        """Queue a request; its sink hears of the rest. While the engine drains it is aborted at once."""
        request.arrived = request.arrived or monotonic()
        if self.draining:
            request.finish, request.phase = "abort", "done"
            request.sink.finished(request)
            return
        self.scheduler.add(request)
        self.wake()

    def abort(self, request: Request) -> None:
        """The client left."""
        if request.phase != "done":
            self.scheduler.drop(request)
            self._count_finished(request, monotonic())
            self.wake()

    def abort_all(self) -> None:
        scheduler = self.scheduler
        for request in [*scheduler.running, *scheduler.loading, *scheduler.waiting]:
            self.abort(request)
            request.sink.finished(request)

    def wake(self) -> None:
        self._work.set()

    def fall_asleep(self, level: int) -> None:
        self.abort_all()
        self.sleep_level = level
        self.scheduler.pool.clear()
        self._tell_sleep()

    def wake_up(self) -> None:
        self.sleep_level = None
        self._tell_sleep()
        self.wake()

    def _tell_sleep(self) -> None:
        level = self.sleep_level
        for state, true in (
            ("awake", level is None),
            ("weights_offloaded", level == 1),
            ("discard_all", level == 2),
        ):
            self.metrics.set("vllm:engine_sleep_state", float(true), state)

    # --- The loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Steps for ever; cancelled from outside."""
        self._tell_sleep()
        now = monotonic
        deadline = last = now()
        while True:
            paused = self.faults.hung or self.sleep_level is not None
            step = Step() if paused else self.scheduler.step(now())
            if not step:
                self._work.clear()
                await self._work.wait()
                deadline = last = now()
                continue
            seconds = self._step_time(step) * self.faults.slow
            deadline += seconds
            # Even a step that should be over by now lets connections be read.
            await asyncio.sleep(max(0.0, deadline - now()))
            ended = now()
            if ended - deadline > _HOPELESS_SECONDS:
                self.clock.late_seconds += ended - deadline
                deadline = ended
            self.clock.steps += 1
            self.clock.modelled_seconds += seconds
            self.clock.elapsed_seconds += ended - last
            last = ended
            self._emit(step, ended)

    def _emit(self, step: Step, now: float) -> None:
        gaps: dict[float, int] = {}
        tokens = prefilled = 0
        for request, count in self.scheduler.complete(step, now):
            tokens += count
            if not request.first_token:
                request.first_token = now
                prefilled += self._count_first(request, now)
                self._store(request)
            else:
                last = request.last_token
                gaps[last] = gaps.get(last, 0) + 1
            request.last_token = now
            request.sink.produced(request, count)
            if request.finish:
                self._count_finished(request, now)
                self._store(request)
                request.sink.finished(request)
        metrics = self.metrics
        for last, times in gaps.items():
            metrics.observe("vllm:inter_token_latency_seconds", now - last, times)
        if tokens or prefilled:
            metrics.add("vllm:generation_tokens", tokens)
            metrics.observe("vllm:iteration_tokens_total", prefilled + tokens)

    def _store(self, request: Request) -> None:
        if self._tier:
            whole = request.computed // self.settings.limits.block_size
            self._tier.store(request.chain[:whole])

    # --- Metrics --------------------------------------------------------------------------------------

    def _count_first(self, request: Request, now: float) -> int:
        """Returns how many of its prompt's tokens were computed."""
        metrics, cached = self.metrics, request.cached or 0
        computed = request.prompt - cached
        metrics.observe("vllm:time_to_first_token_seconds", now - request.arrived)
        metrics.add("vllm:prompt_tokens", request.prompt)
        source = "vllm:prompt_tokens_by_source"
        metrics.add(source, computed, "local_compute")
        metrics.add(source, cached - request.external, "local_cache_hit")
        metrics.add(source, request.external, "external_kv_transfer")
        metrics.add("vllm:prompt_tokens_cached", cached)
        return computed

    def _count_finished(self, request: Request, now: float) -> None:
        metrics = self.metrics
        metrics.add("vllm:request_success", 1, request.finish or "abort")
        if not request.first_token:
            return  # aborted before anything came of it
        decode = request.last_token - request.first_token
        between = decode / (request.output - 1) if request.output > 1 else 0.0
        for name, value in (
            ("e2e_request_latency_seconds", now - request.arrived),
            ("request_queue_time_seconds", request.scheduled - request.arrived),
            ("request_prefill_time_seconds", request.first_token - request.scheduled),
            ("request_decode_time_seconds", decode),
            ("request_inference_time_seconds", request.last_token - request.scheduled),
            ("request_time_per_output_token_seconds", between),
            ("request_num_preemptions", request.preemptions),
            ("request_prompt_tokens", request.prompt),
            ("request_generation_tokens", request.output),
            ("request_max_num_generation_tokens", request.output),
            ("request_prefill_kv_computed_tokens", request.prompt - (request.cached or 0)),
            ("request_params_n", 1),
        ):
            metrics.observe(f"vllm:{name}", value)
        if request.max_tokens:
            metrics.observe("vllm:request_params_max_tokens", request.max_tokens)

    def refresh(self) -> None:
        """Bring gauges, and counters that the scheduler keeps, up to date for a scrape."""
        scheduler, metrics, counts = self.scheduler, self.metrics, self.scheduler.counts
        waiting, deferred = len(scheduler.waiting), len(scheduler.loading)
        metrics.set("vllm:num_requests_running", len(scheduler.running))
        metrics.set("vllm:num_requests_waiting", waiting + deferred)
        metrics.set("vllm:num_requests_waiting_by_reason", waiting, "capacity")
        metrics.set("vllm:num_requests_waiting_by_reason", deferred, "deferred")
        metrics.set("vllm:kv_cache_usage_perc", scheduler.pool.usage)
        metrics.set("vllm:prefix_cache_queries", counts.prefix_queries)
        metrics.set("vllm:prefix_cache_hits", counts.prefix_hits)
        metrics.set("vllm:external_prefix_cache_queries", counts.external_queries)
        metrics.set("vllm:external_prefix_cache_hits", counts.external_hits)
        by_source = "vllm:prompt_tokens_cached_by_source"
        metrics.set(by_source, counts.prefix_hits, "device")
        if self._tier:
            metrics.set(by_source, counts.external_hits, self._tier.source)
        metrics.set("vllm:num_preemptions", counts.preemptions)
        if self.settings.limits.draft_tokens:
            self._refresh_speculation()
        metrics.adapters = (
            ",".join(sorted({r.adapter for r in scheduler.running if r.adapter})),
            ",".join(sorted({r.adapter for r in scheduler.waiting if r.adapter})),
        )

    def _refresh_speculation(self) -> None:
        metrics, counts = self.metrics, self.scheduler.counts
        metrics.set("vllm:spec_decode_num_drafts", counts.drafts)
        metrics.set("vllm:spec_decode_num_draft_tokens", counts.draft_tokens)
        metrics.set("vllm:spec_decode_num_accepted_tokens", counts.accepted_tokens)
        left = counts.accepted_tokens
        for place in range(self.settings.limits.draft_tokens):
            # Proposals are accepted from the first on: position i counts while the mean exceeds i.
            here = min(left, counts.drafts)
            metrics.set("vllm:spec_decode_num_accepted_tokens_per_pos", here, str(place))
            left -= here
