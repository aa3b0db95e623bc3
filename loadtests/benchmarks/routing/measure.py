"""One run: the workload's clients at a router's door, the workers' counters before and after."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import gevent
import httpx
import numpy as np
import psutil

from freehold.gateway.model import Address, join_address
from freehold.load.record import RequestRecord

from .engine import Counters
from .routers import Door, Router, Setting
from .workloads import warm_up


@dataclass(frozen=True)
class Result:
    """Times in milliseconds, shares from 0 to 1."""

    router: str
    workload: str
    workers: int
    tenants: int
    sealed: bool
    hit_share: float
    """Prompt tokens that workers found in their prefix caches."""
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    busiest: float
    """Requests of the busiest worker over the mean; of the models' pools the worst."""
    requests_per_second: float
    output_tokens_per_second: float
    cpu_ms_per_request: float | None
    """Of the router's processes, user and system."""
    memory_mib: float | None
    """Of the router's processes, at the end."""
    renders_per_request: float
    """Questions to the workers' tokenizers."""
    seconds: float
    requests: int
    failed: int
    errors: dict[str, int]


class Bench:
    """The benchmark's own workers (engine.py), which take orders."""

    def __init__(self, count: int, first_port: int) -> None:
        self.workers = tuple(("127.0.0.1", first_port + 1 + place) for place in range(count))
        self._orders = f"http://127.0.0.1:{first_port}"

    def begin(self, setting: Setting) -> None:
        workload = setting.workload
        slow = {str(place): times for place, times in workload.slow}
        order = {"slow": slow, "away_seconds": workload.away_seconds}
        httpx.post(f"{self._orders}/reset", json=order).raise_for_status()

    def counters(self) -> list[Counters]:
        return [Counters(**told) for told in httpx.get(f"{self._orders}/counters").json()]


class Real:
    """Workers that run already and export vLLM's metrics: simulated or real engines. Their caches stay
    as they are, so each run's prompts must be new (another seed)."""

    _NAMES = {
        "vllm:request_success_total": "requests",
        "vllm:prefix_cache_queries_total": "prompt_tokens",
        "vllm:prefix_cache_hits_total": "cached_tokens",
        "vllm:generation_tokens_total": "output_tokens",
    }

    def __init__(self, workers: Sequence[Address]) -> None:
        self.workers = tuple(workers)
        self._before: list[Counters] = []

    def begin(self, setting: Setting) -> None:
        self._before = [self._read(worker) for worker in setting.workers]

    def counters(self) -> list[Counters]:
        now = [self._read(worker) for worker in self.workers]
        return [
            Counters(**{name: getattr(b, name) - getattr(a, name) for name in vars(a)})
            for a, b in zip(self._before, now, strict=True)
        ]

    def _read(self, worker: Address) -> Counters:
        counters = Counters()
        for line in httpx.get(f"http://{join_address(*worker)}/metrics").text.splitlines():
            name = self._NAMES.get(line.split("{")[0].split(" ")[0])
            if name:
                value = float(line.rsplit(" ", 1)[1])
                setattr(counters, name, getattr(counters, name) + int(value))
        return counters


Workers = Bench | Real


def run(router: Router, setting: Setting, workers: Workers) -> Result:
    workers.begin(setting)
    with router.open(setting) as door:
        calls = enumerate(warm_up(setting.workload))
        gevent.joinall([gevent.spawn(door.send, call, place) for place, call in calls])
        workers.begin(setting)
        cpu = cpu_seconds(door)
        began = time.perf_counter()
        records = _send_all(door, setting)
        seconds = time.perf_counter() - began
        cpu = cpu_seconds(door) - cpu
        memory = sum(process.memory_info().rss for process in _processes(door)) / 2**20
    counters = workers.counters()
    return _result(router, setting, records, counters, seconds, cpu, memory, bool(door.processes))


def _send_all(door: Door, setting: Setting) -> list[RequestRecord]:
    """Each client takes a conversation, has it to its end, and takes the next."""
    waiting = deque(enumerate(setting.workload.conversations))
    records: list[RequestRecord] = []

    def client() -> None:
        while waiting:
            place, calls = waiting.popleft()
            records.extend(door.send(call, place) for call in calls)

    gevent.joinall(
        [gevent.spawn(client) for _ in range(setting.workload.clients)], raise_error=True
    )
    return records


def _processes(door: Door) -> list[psutil.Process]:
    return [
        each for process in door.processes for each in (process, *process.children(recursive=True))
    ]


def cpu_seconds(door: Door) -> float:
    times = [process.cpu_times() for process in _processes(door)]
    return sum(each.user + each.system for each in times)


def _result(
    router: Router,
    setting: Setting,
    records: Sequence[RequestRecord],
    counters: Sequence[Counters],
    seconds: float,
    cpu: float,
    memory: float,
    seen: bool,
) -> Result:
    good = [record for record in records if record.ok]
    ttfts = [1000 * record.ttft for record in good if record.ttft is not None]
    # What comes whole has no first token: then its time is that of the answer.
    whole = [1000 * record.latency for record in good if record.latency is not None]
    ttfts = ttfts or whole or [float("nan")]
    p50, p95, p99 = (float(value) for value in np.percentile(ttfts, (50, 95, 99)))
    prompt = sum(each.prompt_tokens for each in counters)
    requests = max(1, len(records))
    failed = [record for record in records if not record.ok]
    return Result(
        router=router.name,
        workload=setting.workload.name,
        workers=len(setting.workers),
        tenants=setting.tenants,
        sealed=setting.sealed,
        hit_share=sum(each.cached_tokens for each in counters) / max(1, prompt),
        ttft_p50=p50,
        ttft_p95=p95,
        ttft_p99=p99,
        busiest=_busiest(setting, counters),
        requests_per_second=len(good) / seconds,
        output_tokens_per_second=sum(each.output_tokens for each in counters) / seconds,
        cpu_ms_per_request=1000 * cpu / requests if seen else None,
        memory_mib=memory if seen else None,
        renders_per_request=sum(each.renders for each in counters) / requests,
        seconds=seconds,
        requests=len(records),
        failed=len(failed),
        errors=dict(Counter(record.error_kind or "" for record in failed)),
    )


def _busiest(setting: Setting, counters: Sequence[Counters]) -> float:
    by_address = dict(zip(setting.workers, counters, strict=True))
    worst = 0.0
    for workers in setting.by_model().values():
        served = [by_address[worker].requests for worker in workers]
        worst = max(worst, max(served) / max(1e-9, statistics.mean(served)))
    return worst


def median_of(results: Sequence[Result]) -> Result:
    """Field by field; failures are added up, not hidden."""
    first = results[0]
    fields = {}
    for name, value in vars(first).items():
        values = [getattr(result, name) for result in results]
        numbers = isinstance(value, int | float) and not isinstance(value, bool)
        fields[name] = statistics.median(values) if numbers else value
    fields["failed"] = sum(result.failed for result in results)
    fields["errors"] = dict(sum((Counter(result.errors) for result in results), Counter()))
    return Result(**fields)
