"""A case in virtual time: the simulated engine's own scheduler and step times, with no clock and no gateway.

What comes out depends on nothing but the case, so a busy machine is no hindrance. For one worker, with host
memory behind its cache or without.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator

from freehold.config.demand import Demand
from freehold.config.stack import KvCache
from freehold.engine.command_line import command_line
from freehold.load.traffic import Traffic, tier_traffic
from freehold.load.traffic.fitting import fitted
from freehold.local.simulated import replica_of, scenario_of
from freehold.planning.plan import Plan
from freehold.simulator import flags
from freehold.simulator.request import Request
from freehold.simulator.scheduler import Limits, Scheduler
from freehold.simulator.settings import SharedTier, from_namespace
from freehold.simulator.shared_tier import Store
from freehold.simulator.timing import of_deployment
from freehold.simulator.tokens import WIDTH, Answer
from freehold.simulator.virtual import Fetches, Measured, open_loop

# Answers that each user gets. The first and the last round are left out: a loop that begins or ends is not
# the one that was planned.
_ROUNDS = 10


def run(plan: Plan, demand: Demand, users: int) -> dict[str, float]:
    """One worker of the plan's first pool, with so many users whose requests are as the demand says."""
    pool = plan.pools[0]
    deployment = replica_of(pool)
    assert deployment
    scenario = scenario_of(plan, pool)
    limits = from_namespace(flags.parse(command_line(pool.settings)), scenario, {}).limits
    pace, chance = of_deployment(deployment), random.Random(0)
    tier = _Tier(plan.cache, scenario["shared_tier"], limits.block_size) if plan.cache else None
    scheduler = Scheduler(limits, load=tier.fetches.ask if tier else None)

    def outside(request: Request) -> float:
        if tier:
            request.external = tier.found(request)
        known = max(request.external, scheduler.pool.match(request.chain) * limits.block_size)
        company = min(users, limits.max_num_seqs)
        return pace.outside(max(1, request.prompt - known), company).seconds(chance.random())

    def next_of_the_same(request: Request) -> Request | None:
        if tier:
            tier.keep(request)
        assert isinstance(request.sink, _User)
        return next(request.sink.requests, None)

    everybody = [_User(number, demand, limits) for number in range(users)]
    first = ((0.0, next(user.requests)) for user in everybody)
    fetches = tier.fetches if tier else None
    every = list(open_loop(scheduler, pace.step, first, outside, next_of_the_same, fetches))
    counts = scheduler.counts
    found = (counts.prefix_hits + counts.external_hits) / max(1, counts.prefix_queries)
    return _figures(every, users) | {"cached": found}


class _Tier:
    """Host memory behind the worker's own cache, with nothing else on the way to it."""

    def __init__(self, cache: KvCache, speed: dict[str, float], block_size: int) -> None:
        self._chunk, self._blocks = cache.chunk_tokens, cache.chunk_tokens // block_size
        token = speed["bytes_per_token"]
        self._store = Store(self._chunk, int(cache.host_memory_gib * 2**30 / token))
        a_second = speed["gigabytes_per_second"] * 1e9 / token
        self.fetches = Fetches(lambda tokens: SharedTier.latency_seconds + tokens / a_second)

    def found(self, request: Request) -> int:
        """Tokens of its prompt, from the first on."""
        return self._store.found(self._keys(request)) * self._chunk

    def keep(self, request: Request) -> None:
        self._store.add(self._keys(request))

    def _keys(self, request: Request) -> list[int]:
        return request.chain[self._blocks - 1 :: self._blocks]


def _figures(every: list[Measured], users: int) -> dict[str, float]:
    """By the load test's definitions; what was answered in the rounds between, over the time they took."""
    counted = every[users:-users]
    seconds = counted[-1].end - every[users - 1].end
    ttfts = [1e3 * one.ttft for one in counted]
    return {
        "median_ttft_ms": statistics.median(ttfts),
        "p95_ttft_ms": statistics.quantiles(ttfts, n=20, method="inclusive")[-1],
        "requests_per_second": len(counted) / seconds,
        "median_tpot_ms": 1e3 * statistics.median(one.tpot for one in counted),
        "output_throughput": sum(one.output for one in counted) / seconds,
    }


class _User:
    """Conversations as the load test has them; as the sink of its requests it is known by them."""

    def __init__(self, number: int, demand: Demand, limits: Limits) -> None:
        self._chance = random.Random(number)
        self._limits = limits
        self.requests = self._conversations(fitted(tier_traffic(None), demand))

    def _conversations(self, traffic: Traffic) -> Iterator[Request]:
        left, low, high = _ROUNDS, 1 - traffic.output_spread, 1 + traffic.output_spread
        while left:
            # A prompt is the beginning of its conversation, whoever wrote which part of it.
            seed = self._chance.randrange(1 << 16)
            text = Answer.words(seed, traffic.context_limit).text.encode()
            prompt = traffic.input_tokens
            while left and prompt + traffic.longest_output <= traffic.context_limit:
                output = round(traffic.output_tokens * self._chance.uniform(low, high))
                yield self._request(text[: prompt * WIDTH], output)
                prompt += output + traffic.turn_tokens
                left -= 1

    def _request(self, text: bytes, output: int) -> Request:
        return Request(
            text,
            Answer.words(self._chance.randrange(1 << 16), output),
            self,
            block_size=self._limits.block_size,
            caching=self._limits.prefix_caching,
            max_tokens=output,
        )

    def produced(self, request: Request, count: int) -> None: ...

    def finished(self, request: Request) -> None: ...
