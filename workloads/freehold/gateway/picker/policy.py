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


@dataclass(eq=False)
class Worker:
    """One engine as the picker sees it."""

    pool: str
    name: str
    address: str
    """`host:port` with the host as an IP address: how Envoy names it."""
    up: bool = True
    in_flight: int = 0
    index: PrefixIndex = field(default_factory=PrefixIndex)


@dataclass(frozen=True)
class Pick:
    worker: Worker
    matched: int
    """Chunks of the prompt that the worker's cache probably holds."""


def by_prefix(workers: Sequence[Worker], prompt: Prompt, replicas: int) -> Pick:
    """Longest prefix match among workers with room.

    Several match alike where nothing, or only a common system prompt, is known: then the first chunk
    after the match decides by rendezvous hash, the less loaded of its two best workers. With several
    gateways that share nothing it decides alone, so that all send the same prompt to the same worker."""
    room = with_room(workers)
    matches = [worker.index.matched(prompt.chain) for worker in room]
    longest = max(matches)
    tied = [worker for worker, match in zip(room, matches, strict=True) if match == longest]
    if len(tied) == 1:
        return Pick(tied[0], longest)
    ranked = sorted(tied, key=rendezvous(prompt.key_after(longest)), reverse=True)
    worker = ranked[0] if replicas > 1 else min(ranked[:2], key=lambda worker: worker.in_flight)
    return Pick(worker, longest)


def by_session(workers: Sequence[Worker], session: str, prompt: Prompt) -> Pick:
    """The session's own worker, or the next in its order while that one has no room."""
    key = rendezvous(xxhash.xxh3_64_intdigest(session))
    worker = max(with_room(workers), key=key)
    return Pick(worker, worker.index.matched(prompt.chain))


def with_room(workers: Sequence[Worker]) -> list[Worker]:
    """Those below the bound. Never empty: the least loaded is not above the mean."""
    mean = sum(worker.in_flight for worker in workers) / len(workers)
    return [worker for worker in workers if worker.in_flight < LOAD_FACTOR * mean + 1]


def rendezvous(key: int) -> Callable[[Worker], int]:
    """Highest random weight: a worker's weight for `key`, the same on every gateway."""
    return lambda worker: xxhash.xxh3_64_intdigest(worker.address, seed=key)
