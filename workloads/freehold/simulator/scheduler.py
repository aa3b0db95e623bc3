"""vLLM's scheduler without a GPU and without a clock: what runs in each step, and what it holds.

Continuous batching with a token budget a step, chunked prefill, paged KV memory with a prefix cache,
preemption by recomputation. The order of things is vLLM's (`vllm/v1/core/sched/scheduler.py`, 0.32):
running requests first, then waiting ones in order of arrival while tokens, sequences and blocks last.
Whoever drives it asks for a step, lets the step's time pass (in real or in virtual time) and completes it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .blocks import BlockPool
from .request import FinishReason, Request


@dataclass(frozen=True)
class Limits:
    """What the command line and the plan allow one replica."""

    block_size: int = 16
    blocks: int = 8192
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 32768
    prefix_caching: bool = True
    draft_tokens: int = 0
    """Proposals checked a step beside a sequence's own token (speculative decoding)."""
    tokens_per_step: float = 1.0
    """Tokens that a step yields a sequence on average; more than 1 only with drafts."""
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None


@dataclass
class Step:
    """What one engine step computes."""

    decodes: list[Request] = field(default_factory=list)
    prefills: list[tuple[Request, int]] = field(default_factory=list)
    """Requests with how many of their tokens are computed."""
    decode_context: int = 0
    """KV tokens that the decoding sequences read, all together."""
    prefill_tokens: int = 0
    prefill_pairs: float = 0.0
    """Pairs of tokens that attend to each other in the prefilled chunks."""

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)

    @property
    def prefill_context(self) -> float:
        """KV tokens before the prefilled ones, as if they were one chunk with as many pairs.

        Below 0 for several short prompts: they attend to less than one of their common length would.
        """
        if not self.prefill_tokens:
            return 0.0
        return self.prefill_pairs / self.prefill_tokens - self.prefill_tokens / 2


@dataclass
class Counts:
    """Totals since the start, for metrics."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    external_queries: int = 0
    external_hits: int = 0
    preemptions: int = 0
    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0


Load = Callable[[Request, int], None]
"""Starts fetching so many tokens of a request from the shared tier; `Scheduler.loaded` ends it."""


class Scheduler:
    def __init__(self, limits: Limits, seed: int = 0, load: Load | None = None) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.blocks, limits.prefix_caching)
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.loading: list[Request] = []
        self.counts = Counts()
        self._load = load
        self._random = random.Random(seed)
        # A decoding sequence needs room for its own token and for the drafts checked with it.
        self._decode_width = 1 + limits.draft_tokens

    # --- Requests come and go -------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        self.waiting.append(request)

    @property
    def unfinished(self) -> int:
        return len(self.running) + len(self.waiting) + len(self.loading)

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of requests that have no first token yet."""
        queued = [*self.waiting, *self.loading, *self.running]
        return sum(request.prompt for request in queued if not request.output)

    def drop(self, request: Request) -> None:
        """End a request before its time; nothing of it is emitted any more."""
        if request.phase == "done":
            return
        place = {"running": self.running, "loading": self.loading, "waiting": self.waiting}
        if request in place[request.phase]:  # else it is on its way here
            place[request.phase].remove(request)
        self._end(request, "abort")

    def loaded(self, request: Request, tokens: int) -> None:
        """The shared tier delivered `tokens` of the request (0: it failed; they are computed)."""
        if request.phase != "loading":
            return
        self.loading.remove(request)
        request.phase = "waiting"
        if tokens:
            request.computed += tokens
            self._publish(request)
        else:
            request.cached, request.external = request.computed, 0
        self.waiting.appendleft(request)

    # --- A step ---------------------------------------------------------------------------------------

    def step(self, now: float) -> Step:
        """Decide what the next step computes, and give it blocks. Empty when there is nothing to do."""
        step = Step()
        budget, preempted = self._schedule_running(step, self.limits.max_num_batched_tokens)
        if not preempted:
            self._schedule_waiting(step, budget, now)
        return step

    def _schedule_running(self, step: Step, budget: int) -> tuple[int, bool]:
        width, most = self._decode_width, self.limits.max_model_len
        running, place, preempted = self.running, 0, False
        while place < len(running) and budget > 0:
            request = running[place]
            computed, length = request.computed, request.prompt + request.output
            new = length - computed
            decoding = new == 1 and request.output > 0
            if decoding:
                new = min(width, budget, most - computed)
            elif new > budget:
                new = budget
            if computed + new > request.slots:
                victims = self._make_room(request, computed + new)
                preempted = preempted or victims
                if request.phase != "running":
                    break  # it was the last one itself: nothing is left behind it
            if decoding:
                step.decodes.append(request)
                step.decode_context += length
            else:
                _add_prefill(step, request, new)
            budget -= new
            place += 1
        return budget, preempted

    def _make_room(self, request: Request, upto: int) -> bool:
        """Blocks for `upto` tokens, taken from the latest arrivals if need be; True if any lost theirs."""
        preempted = False
        while not self._grow(request, upto):
            victim = self.running.pop()
            self._preempt(victim)
            preempted = True
            if victim is request:
                break
        return preempted

    def _schedule_waiting(self, step: Step, budget: int, now: float) -> None:
        waiting, limits = self.waiting, self.limits
        while waiting and budget > 0 and len(self.running) < limits.max_num_seqs:
            request = waiting[0]
            if not request.slots:
                self._reuse(request)
            new = min(request.length - request.computed, budget)
            if not self._grow(request, request.computed + new):
                self._give_back(request)  # what it had stays in the prefix cache
                return
            waiting.popleft()
            if self._fetch(request):
                continue
            if not request.scheduled:
                request.scheduled = now
            request.phase = "running"
            self.running.append(request)
            _add_prefill(step, request, new)
            budget -= new

    def _reuse(self, request: Request) -> None:
        """Take what the prefix cache has. One token is always left to compute: the answer needs it."""
        size = self.limits.block_size
        most = (request.length - 1) // size
        matched = min(self.pool.match(request.chain), most) if self.limits.prefix_caching else 0
        request.shared = request.chain[:matched]
        self.pool.share(request.shared)
        request.published = matched
        request.computed = request.slots = matched * size

    def _fetch(self, request: Request) -> bool:
        """Counts cache hits of a new request; True if the shared tier has more, which is being loaded."""
        if request.cached is not None:
            return False
        local = request.computed
        request.cached = local
        if self.limits.prefix_caching:
            self.counts.prefix_queries += request.prompt
            self.counts.prefix_hits += local
        if self._load is None:
            return False
        self.counts.external_queries += request.prompt - local
        size = self.limits.block_size
        request.external = min(request.external, (request.prompt - 1) // size * size)
        more = request.external - local
        if more <= 0 or not self._grow(request, request.external):
            request.external = 0
            return False
        self.counts.external_hits += more
        request.cached = request.external
        request.external = more
        request.phase = "loading"
        self.loading.append(request)
        self._load(request, more)
        return True

    # --- After a step ---------------------------------------------------------------------------------

    def complete(self, step: Step, now: float) -> list[tuple[Request, int]]:
        """The step is over: who produced how many tokens. Finished requests have `finish` set."""
        produced: list[tuple[Request, int]] = []
        for request, count in step.prefills:
            if request.phase != "running":
                continue  # dropped while the step ran
            request.computed += count
            self._publish(request)
            if request.computed == request.length:
                self._produce(request, 1 if request.limit else 0, produced)
        speculative = self.limits.draft_tokens > 0
        size = self.limits.block_size
        for request in step.decodes:
            if request.phase != "running":
                continue
            count = self._accepted(request) if speculative else 1
            request.computed += count
            if request.computed // size > request.published:
                self._publish(request)
            self._produce(request, count, produced)
        return produced

    def _produce(self, request: Request, count: int, into: list[tuple[Request, int]]) -> None:
        request.output += count
        into.append((request, count))
        if request.output >= request.limit:
            self.running.remove(request)
            cut = request.stop_reason is None and request.limit == request.max_tokens
            self._end(request, "length" if cut else "stop")

    def _accepted(self, request: Request) -> int:
        """Tokens of one speculative step: its own, and as many drafts as luck accepts."""
        limits, counts = self.limits, self.counts
        drafts = min(limits.draft_tokens, limits.max_model_len - request.computed - 1)
        mean = limits.tokens_per_step - 1
        whole = int(mean)
        accepted = min(drafts, whole + (self._random.random() < mean - whole))
        counts.drafts += 1
        counts.draft_tokens += drafts
        counts.accepted_tokens += accepted
        return min(1 + accepted, request.limit - request.output)

    # --- Blocks ---------------------------------------------------------------------------------------

    def _grow(self, request: Request, upto: int) -> bool:
        missing = -(-(upto - request.slots) // self.limits.block_size)
        if missing <= 0:
            return True
        if not self.pool.take(missing):
            return False
        request.private += missing
        request.slots += missing * self.limits.block_size
        return True

    def _publish(self, request: Request) -> None:
        """Offer the blocks that are full now to the prefix cache."""
        if not self.limits.prefix_caching or request.answer is None:
            return
        full = request.computed // self.limits.block_size
        chain = request.chain
        while len(chain) < full:
            request.extend_chain(self.limits.block_size)
        for block in chain[request.published : full]:
            if self.pool.publish(block):
                request.shared.append(block)
                request.private -= 1
        request.published = full

    def _give_back(self, request: Request) -> None:
        self.pool.release(request.shared, request.private)
        request.shared, request.private = [], 0
        request.published = request.slots = request.computed = 0

    def _preempt(self, request: Request) -> None:
        self._give_back(request)
        request.phase = "waiting"
        request.preemptions += 1
        self.counts.preemptions += 1
        self.waiting.appendleft(request)

    def _end(self, request: Request, reason: FinishReason) -> None:
        self.pool.release(request.shared, request.private)
        request.shared, request.private = [], 0
        request.phase = "done"
        request.finish = reason


def _add_prefill(step: Step, request: Request, new: int) -> None:
    step.prefills.append((request, new))
    step.prefill_tokens += new
    step.prefill_pairs += new * (request.computed + new / 2)
