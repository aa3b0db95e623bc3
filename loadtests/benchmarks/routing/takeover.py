"""What it costs that a picker dies and its standby, which has learned nothing, takes over. From the root:

    python -m loadtests.benchmarks.routing.takeover [W1] [--seconds 20]

Clients of a workload that goes on and on; after a while the serving picker is killed. What workers find in
their caches and how long first tokens take, second by second, before and afterwards.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gevent
import numpy as np

from freehold.load.record import RequestRecord

from . import measure, routers
from .engine import Counters
from .run import bench_workers
from .workloads import WORKLOADS, Workload

# Requests that are there to be sent, of the workload's own number: more than are sent in a minute.
_SCALE = 40.0
_WARM_SECONDS = 10.0
# Back is when as much is found as before but for so much, in the mean of some seconds: clients that began
# together are at the same turn for a while.
_POINTS, _MEAN_OF = 0.01, 4


@dataclass(frozen=True)
class Second:
    """Of the requests that ended in it."""

    at: int
    """Since the picker was killed."""
    prompt_tokens: int
    cached_tokens: int
    ttfts_ms: list[float]
    failed: int

    @property
    def found(self) -> float:
        return self.cached_tokens / max(1, self.prompt_tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workload", nargs="?", default="W1", choices=WORKLOADS)
    parser.add_argument("--replicas", type=int, default=4, help="workers")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="before, and as long afterwards"
    )
    options = parser.parse_args()
    make = WORKLOADS[options.workload]
    workload = replace(make(1000, _SCALE), clients=make(1000, 1.0).clients)
    with bench_workers(options.replicas) as workers, tempfile.TemporaryDirectory() as folder:
        setting = routers.Setting(workers.workers, workload, Path(folder))
        workers.begin(setting)
        with routers.freehold("prefix", standby=True).open(setting) as door:
            seconds = _watch(door, workers, workload, options.seconds)
    _tell([each for each in seconds if each.at < 0], [each for each in seconds if each.at >= 0])


def _watch(
    door: routers.Door, workers: measure.Bench, workload: Workload, lasts: float
) -> list[Second]:
    records: list[RequestRecord] = []
    waiting = enumerate(workload.conversations)

    def client() -> None:
        for place, calls in waiting:
            records.extend(door.send(call, place) for call in calls)

    clients = [gevent.spawn(client) for _ in range(workload.clients)]
    gevent.sleep(_WARM_SECONDS)
    picker, standby = door.processes[0], door.processes[-1]
    assert picker.is_running() and standby.is_running()
    killed = time.perf_counter() + lasts
    before, seen, seconds = _sum(workers), len(records), []
    while (now := time.perf_counter() - killed) < lasts:
        gevent.sleep(1 - now % 1)
        if now < 0 <= time.perf_counter() - killed:
            picker.kill()
        after, fresh = _sum(workers), records[seen:]
        seconds.append(_second(math.floor(now), before, after, fresh))
        before, seen = after, seen + len(fresh)
    gevent.killall(clients)
    return seconds


def _sum(workers: measure.Bench) -> Counters:
    every = workers.counters()
    return Counters(**{name: sum(getattr(each, name) for each in every) for name in vars(every[0])})


def _second(at: int, before: Counters, after: Counters, records: Sequence[RequestRecord]) -> Second:
    return Second(
        at=at,
        prompt_tokens=after.prompt_tokens - before.prompt_tokens,
        cached_tokens=after.cached_tokens - before.cached_tokens,
        ttfts_ms=[1000 * each.ttft for each in records if each.ok and each.ttft is not None],
        failed=sum(not each.ok for each in records),
    )


def _tell(before: Sequence[Second], after: Sequence[Second]) -> None:
    print(f"{'second':>8}{'found %':>9}{'TTFT p50':>10}{'p95':>7}{'failed':>8}")
    usual = _all(before)
    print(f"{'before':>8}{_cells(usual)}")
    for each in after:
        print(f"{each.at:>8}{_cells(each)}")
    back = next(
        place
        for place in range(len(after))
        if _all(after[place : place + _MEAN_OF]).found > usual.found - _POINTS
        or place + _MEAN_OF >= len(after)
    )
    lost = sum((usual.found - each.found) * each.prompt_tokens for each in after[:back])
    said = f"after {back} s" if back + _MEAN_OF < len(after) else "not in this time"
    print(
        f"back within {100 * _POINTS:.0f} point {said}; until then {lost:,.0f} tokens were read again "
        f"that would have been found before"
    )


def _all(seconds: Sequence[Second]) -> Second:
    return Second(
        at=0,
        prompt_tokens=sum(each.prompt_tokens for each in seconds),
        cached_tokens=sum(each.cached_tokens for each in seconds),
        ttfts_ms=[ttft for each in seconds for ttft in each.ttfts_ms],
        failed=sum(each.failed for each in seconds),
    )


def _cells(of: Second) -> str:
    p50, p95 = np.percentile(of.ttfts_ms or [math.nan], (50, 95))
    return f"{100 * of.found:>9.1f}{p50:>10.0f}{p95:>7.0f}{of.failed:>8}"


if __name__ == "__main__":
    main()
