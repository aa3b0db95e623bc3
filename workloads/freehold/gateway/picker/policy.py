"""Which worker: the longest prefix match among those that have room. Pure; figures in docs/gateway.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import xxhash

from .index import PrefixIndex
from .prompt import Prompt

# A worker has room below 1.25 times the mean of requests in flight, plus one (so that there is room
# when nothing runs). Best or near best on six workloads, measured 2026-11-23.
LOAD_FACTOR = 1.25
# A worker is idle below this share of the mean. Three of four workers can hold everything within the
# bound, and the fourth, which never read the common system prompt, would get nothing: seen on 2026-11-24
# (loadtests/benchmarks/routing), when one idle worker of four cost 20 of 88 points of hits in retrieval.
IDLE_SHARE = 0.5
# Among workers that match alike, those with the highest weights for the prompt from which the least loaded is
# taken. Few, so that a picker that starts anew sends a prompt where it was before; three rather than two
# find 87.1 of 85.7 % in tight caches and answer 180 rather than 141 requests a second (W1L, 2026-11-24).
CANDIDATES = 3


@dataclass(eq=False)
class Worker:
    """One engine as the picker sees it."""

    pool: str
    name: str
    address: str
    """`host:port` with the host as an IP address: how Envoy names it."""
    up: bool = True
    """Its health check passes."""
    in_flight: int = 0
    ended: int = 0
    """Requests that have left it."""
    suspect: bool = False
    symptoms: int = 0
    left_out: bool = False
    """What these three mean: `illness`."""
    index: PrefixIndex = field(default_factory=PrefixIndex)


@dataclass(frozen=True)
class Pick:
    worker: Worker
    matched: int
    """Chunks of the prompt that the worker's cache probably holds."""


def by_prefix(workers: Sequence[Worker], prompt: Prompt, replicas: int) -> Pick:
    """Longest prefix match among workers with room.

    Several match alike where nothing, or only a common system prompt, is known: then the first chunk
    after the match decides by rendezvous hash, the least loaded of its three best workers. With several
    gateways that share nothing it decides alone, so that all send the same prompt to the same worker.
    Idle workers are among them, and read what is common once."""
    matches = {worker: worker.index.matched(prompt.chain) for worker in with_room(workers)}
    longest = max(matches.values())
    alike = [worker for worker, match in matches.items() if match == longest]
    if len(alike) == 1:
        return Pick(alike[0], longest)
    idle = IDLE_SHARE * _mean_in_flight(workers)
    alike = [worker for worker in matches if worker in alike or worker.in_flight < idle]
    ranked = sorted(alike, key=rendezvous(prompt.key_after(longest)), reverse=True)
    worker = (
        ranked[0] if replicas > 1 else min(ranked[:CANDIDATES], key=lambda worker: worker.in_flight)
    )
    return Pick(worker, matches[worker])


def by_session(workers: Sequence[Worker], session: str, prompt: Prompt) -> Pick:
    """The session's own worker, or the next in its order while that one has no room."""
    key = rendezvous(xxhash.xxh3_64_intdigest(session))
    worker = max(with_room(workers), key=key)
    return Pick(worker, worker.index.matched(prompt.chain))


def with_room(workers: Sequence[Worker]) -> list[Worker]:
    """Those below the bound. Never empty: the least loaded is not above the mean."""
    bound = LOAD_FACTOR * _mean_in_flight(workers) + 1
    return [worker for worker in workers if worker.in_flight < bound]


def _mean_in_flight(workers: Sequence[Worker]) -> float:
    return sum(worker.in_flight for worker in workers) / len(workers)


def rendezvous(key: int) -> Callable[[Worker], int]:
    """Highest random weight: a worker's weight for `key`, the same on every gateway."""
    return lambda worker: xxhash.xxh3_64_intdigest(worker.address, seed=key)
