"""The engines' own metrics during a run, read from each worker: what the client cannot see.

A gateway's /metrics has no worker's counters, so the engines are read themselves.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

ENGINES = "engines.json"
INTERVAL = 2.0
_TIMEOUT = 1.5

# Gauges, as they are; counters, as growth over the run. Names of vLLM 0.32.
GAUGES = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_cache_usage": "vllm:kv_cache_usage_perc",
}
COUNTERS = {
    "prefix_queries": "vllm:prefix_cache_queries_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "external_queries": "vllm:external_prefix_cache_queries_total",
    "external_hits": "vllm:external_prefix_cache_hits_total",
    "preemptions": "vllm:num_preemptions_total",
    "rejections": "vllm:admission_rejections_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "queue_seconds": "vllm:request_queue_time_seconds_sum",
    "queue_count": "vllm:request_queue_time_seconds_count",
    "ttft_seconds": "vllm:time_to_first_token_seconds_sum",
    "ttft_count": "vllm:time_to_first_token_seconds_count",
}
_FINDS = {"prefix_queries", "prefix_hits", "external_queries", "external_hits"}
_WANTED = {metric: name for name, metric in (GAUGES | COUNTERS).items()}
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Worker:
    name: str
    url: str
    """Without /metrics."""
    reads: bool = True
    """Prompts. One that only writes is handed what others have read, which is no find in a cache."""


@dataclass
class Series:
    """One worker: samples over time, each with the values that it had."""

    name: str
    at: list[float] = field(default_factory=list)
    """Seconds since the epoch."""
    values: list[dict[str, float]] = field(default_factory=list)
    missed: int = 0
    reads: bool = True


def parse(text: str) -> dict[str, float]:
    """The metrics we know in a scrape, summed over the engine's label sets."""
    found: dict[str, float] = {}
    for metric, value in _SAMPLE.findall(text):
        if name := _WANTED.get(metric):
            found[name] = found.get(name, 0.0) + float(value)
    return found


class Watch:
    """Scrapes all workers every two seconds in a thread of its own, from `start` to `stop`."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._series = {w.name: Series(w.name, reads=w.reads) for w in workers}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine metrics", daemon=True)

    def start(self) -> Watch:
        if self._workers:
            self._thread.start()
        return self

    def stop(self) -> list[Series]:
        """A last scrape, then every worker's series."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        return list(self._series.values())

    def _run(self) -> None:
        with (
            httpx.Client(timeout=_TIMEOUT, trust_env=False) as client,
            ThreadPoolExecutor(max_workers=8) as pool,
        ):
            last = False
            while not last:
                last = self._stop.is_set()
                list(pool.map(lambda worker: self._scrape(client, worker), self._workers))
                self._stop.wait(INTERVAL)

    def _scrape(self, client: httpx.Client, worker: Worker) -> None:
        series = self._series[worker.name]
        try:
            answer = client.get(f"{worker.url}/metrics")
            answer.raise_for_status()
        except httpx.HTTPError:
            series.missed += 1
            return
        series.at.append(time.time())
        series.values.append(parse(answer.text))


def keep(folder: Path, series: Sequence[Series]) -> None:
    """Beside the records, so that the report can be made again. A full disk is told by the report."""
    if series:
        with suppress(OSError):
            (folder / ENGINES).write_text(json.dumps([asdict(each) for each in series]))


def kept(folder: Path) -> list[Series]:
    """What `keep` wrote; nothing where no engine was read."""
    try:
        return [Series(**each) for each in json.loads((folder / ENGINES).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def growth(series: Series, name: str) -> float:
    """How much a counter grew over the run; a restart in the middle starts it from zero again."""
    total, previous = 0.0, None
    for values in series.values:
        now = values.get(name, 0.0)
        if previous is not None:
            total += now - previous if now >= previous else now
        previous = now
    return total


def hit_shares(series: Series) -> tuple[list[float], list[float]]:
    """The prefix cache's hit rate between two scrapes, where prompts came; when, and which share."""
    at: list[float] = []
    shares: list[float] = []
    for when, (before, now) in zip(series.at[1:], itertools.pairwise(series.values), strict=True):
        asked, found = (
            now.get(name, 0.0) - before.get(name, 0.0) for name in ("prefix_queries", "prefix_hits")
        )
        if asked > 0 <= found:
            at.append(when)
            shares.append(found / asked)
    return at, shares


def summary(all_series: Sequence[Series]) -> dict[str, Any]:
    """Per worker and over all: hit rates, queue time, preemptions, the peaks of the gauges."""
    workers = [_worker(series) for series in all_series if series.values]
    total: dict[str, float] = {}
    for worker in workers:
        for name, value in worker["grown"].items():
            total[name] = total.get(name, 0.0) + value
    return {
        "rejections": total.get("rejections", 0.0),
        "workers": [{key: v for key, v in worker.items() if key != "grown"} for worker in workers],
        **_rates(total),
    }


def _worker(series: Series) -> dict[str, Any]:
    counters = [name for name in COUNTERS if series.reads or name not in _FINDS]
    grown = {name: growth(series, name) for name in counters}
    peaks = {
        f"peak_{name}": max(values.get(name, 0.0) for values in series.values) for name in GAUGES
    }
    return {
        "name": series.name,
        "scrapes": len(series.at),
        "missed": series.missed,
        **_rates(grown),
        **peaks,
        "grown": grown,
    }


def _rates(grown: Mapping[str, float]) -> dict[str, float | None]:
    def share(part: str, whole: str, factor: float = 1.0) -> float | None:
        return grown.get(part, 0.0) / grown[whole] * factor if grown.get(whole) else None

    return {
        "prefix_hit_rate": share("prefix_hits", "prefix_queries"),
        "external_hit_rate": share("external_hits", "external_queries"),
        "cache_hit_share": _hit_share(grown),
        "mean_queue_ms": share("queue_seconds", "queue_count", 1000),
        "mean_ttft_ms": share("ttft_seconds", "ttft_count", 1000),
        "preemptions": grown.get("preemptions", 0.0),
        "prompt_tokens": grown.get("prompt_tokens", 0.0),
        "generation_tokens": grown.get("generation_tokens", 0.0),
    }


def _hit_share(grown: Mapping[str, float]) -> float | None:
    """Prompt tokens found in any cache: vLLM asks the external one only for what its own lacks."""
    if not grown.get("prefix_queries"):
        return None
    hits = grown.get("prefix_hits", 0.0) + grown.get("external_hits", 0.0)
    return hits / grown["prefix_queries"]
