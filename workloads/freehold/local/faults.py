"""Faults put into a stack that runs here with simulated engines, and taken out again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from freehold.config import FreeholdError
from freehold.planning.plan import Plan, PoolPlan

from .home import StackHome
from .status import ProcessStatus, status

_SLOWER = 5.0
_PATIENCE = 120.0
# What is left of the KV cache: room for this many requests of the planned length.
_ROOM = 2.0
# Of a pool whose plan does not size its cache.
_TAKEN = 0.9


@dataclass(frozen=True)
class Site:
    """Where a fault happens: the pool that is driven, in its stack."""

    plan: Plan
    pool: PoolPlan
    home: StackHome

    def workers(self) -> list[ProcessStatus]:
        """The pool's processes; a process may hold several replicas."""
        rows = status(self.home.folder)
        return [row for row in rows if row.role == "engine" and row.pool == self.pool.name]

    def process(self, role: str) -> ProcessStatus:
        return next(row for row in status(self.home.folder) if row.role == role)


Act = Callable[[Site], str]
"""Does it and says what was done."""


@dataclass(frozen=True)
class Fault:
    begin: Act
    end: Act
    passes: bool = False
    """It ends by itself: `end` waits for that."""


def refuse_impossible(name: str, plan: Plan) -> None:
    """FreeholdError for a fault that the stack has no place for."""
    if name == "stop-redis" and not (plan.cache and plan.cache.redis):
        raise FreeholdError(f"--fault stop-redis: stack {plan.stack} has no Redis (cache.redis)")


def _kill_worker(site: Site) -> str:
    victim = site.workers()[0]
    _signal(victim, signal.SIGKILL)
    return f"{victim.name} was killed"


def _await_worker(site: Site) -> str:
    began = time.monotonic()
    while time.monotonic() < began + _PATIENCE:
        if all(worker.healthy for worker in site.workers()):
            return f"all workers answer again after {time.monotonic() - began:.0f} s"
        time.sleep(0.2)
    return f"a worker did not come back within {_PATIENCE:g} s"


def _slow_worker(site: Site) -> str:
    victim = site.workers()[0]
    _change(victim, slow=_SLOWER)
    return f"{victim.name} takes {_SLOWER:g} times as long for every step"


def _normal_worker(site: Site) -> str:
    victim = site.workers()[0]
    _change(victim, slow=1.0)
    return f"{victim.name} is as fast as before"


def _stop_redis(site: Site) -> str:
    """One server plays LMCache and Redis here: the part that is Redis goes away."""
    _change(site.process("cache"), redis_away=True)
    return "Redis is away: nothing of the shared KV cache is found or stored"


def _resume_redis(site: Site) -> str:
    _change(site.process("cache"), redis_away=False)
    return "Redis is back"


def _fill_kv(site: Site) -> str:
    share = _share_to_take(site.pool)
    for worker in site.workers():
        _change(worker, kv_taken=share)
    return f"{share:.0%} of each worker's KV cache is taken"


def _free_kv(site: Site) -> str:
    for worker in site.workers():
        _change(worker, kv_taken=0.0)
    return "the KV cache is free again"


def _share_to_take(pool: PoolPlan) -> float:
    tokens = pool.sizing.kv_cache_tokens if pool.sizing else None
    if not tokens or not pool.demand:
        return _TAKEN
    room = _ROOM * (pool.demand.input_tokens + pool.demand.output_tokens)
    return max(0.0, 1 - room * pool.replicas / tokens)


def _signal(process: ProcessStatus, number: signal.Signals) -> None:
    if process.pid:
        os.kill(process.pid, number)


def _change(process: ProcessStatus, **faults: float) -> None:
    answer = httpx.post(f"{process.url}/simulator/faults", json=faults, timeout=10, trust_env=False)
    answer.raise_for_status()


BURST = "burst"
"""More users for a while: the load test does it, nothing here."""

FAULTS: dict[str, Fault | None] = {
    "kill-worker": Fault(_kill_worker, _await_worker, passes=True),
    "slow-worker": Fault(_slow_worker, _normal_worker),
    "stop-redis": Fault(_stop_redis, _resume_redis),
    "fill-kv": Fault(_fill_kv, _free_kv),
    BURST: None,
}
