"""What a router adds to a request, what it costs, and what the picker remembers. From the repository's root:

    python -m loadtests.benchmarks.routing.overhead [--pairs 400] [--requests 5000] [--out DIR]

Latency: one request at a time to a worker that answers at once, by turns direct and through the router, on
kept connections; medians. Cost: CPU seconds of the router's processes (Envoy and picker, or vllm-router) for
many requests by 32 clients; requests a second per core is one over it. Both in ten parts by turns, of which
the median and the best are told: neighbours on the same chip make a part up to twice as dear, none cheaper.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent

from freehold.gateway import compiled
from freehold.load.client import Call, StreamingClient

from . import measure, routers
from .run import bench_workers
from .workloads import Writer, hot_prompt

# The body of a small question, and one of 50,000 tokens of documents.
_SIZES = {"4 KB": 4 * 1024, "200 KB": 200 * 1024}
_CLIENTS = 32
_PARTS = 10
# Of the issue: added at the median, and requests a second per core.
_AIMS = {"4 KB": (1.5, 1400), "200 KB": (3.0, 600)}
_FLEETS = (1, 10, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=400, help="of requests, direct and through")
    parser.add_argument("--requests", type=int, default=5000, help="for the cost of one")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of a router")
    parser.add_argument("--out", type=Path, help="folder for overhead.json")
    options = parser.parse_args()
    rows = [*_rows(options)]
    memory = {"in Python": {count: _picker_mib(count) for count in _FLEETS}}
    if compiled.program():
        memory["compiled"] = _compiled_mib()
    for name, by_workers in memory.items():
        told = ", ".join(f"{mib:.0f} MiB for {count}" for count, mib in by_workers.items())
        print(f"picker {name} that remembers all it can of its workers: {told}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        found = {"rows": rows, "picker_mib_by_workers": memory}
        (options.out / "overhead.json").write_text(json.dumps(found, indent=2) + "\n")


def _rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    columns = f"{'added ms':>9}{'best':>7}{'CPU ms':>9}{'best':>7}{'req/s/core':>12}{'best':>7}"
    print(f"{'':32}{'body':>8}{columns}  aim, for the best")
    with bench_workers(4) as workers:
        for router, tenants in _chosen(options.only):
            with tempfile.TemporaryDirectory() as folder:
                setting = routers.Setting(
                    workers.workers, hot_prompt(0, 0.1), Path(folder), tenants, sealed=tenants > 1
                )
                workers.begin(setting)
                name = f"{router.name}{', sealed' if tenants > 1 else ''}"
                with router.open(setting) as door:
                    for size in _SIZES:
                        row = {"router": name, "body": size, **_row(door, workers, size, options)}
                        _show(row)
                        yield row


def _chosen(only: list[str]) -> Iterator[tuple[routers.Router, int]]:
    """Routers that have processes, and ours with sealed tenants beside."""
    python = [routers.freehold("prefix", python=True)] if compiled.program() else []
    for router in (*routers.ALL, *python):
        if router.name.startswith("no router") or (only and router.name not in only):
            continue
        yield router, 1
        if router.name == "freehold prefix":
            yield router, 2


def _row(
    door: routers.Door, workers: measure.Workers, size: str, options: argparse.Namespace
) -> dict[str, float]:
    """Every body is another from its beginning, so that nothing is learned from the one before."""
    host, port = workers.workers[0]
    direct = StreamingClient(f"http://{host}:{port}", None)
    writer = Writer(len(size))

    def call() -> Call:
        text = writer.text(_SIZES[size] // 4)
        return Call("c", "/v1/completions", "chat", {"prompt": text}, streamed=False, session="s")

    def added(pairs: int) -> float:
        direct_ms, through_ms = [], []
        for _ in range(pairs):
            each = call()
            direct_ms.append(_ms(direct.send(each)))
            through_ms.append(_ms(door.send(each, 0)))
        return statistics.median(through_ms) - statistics.median(direct_ms)

    calls = [call() for _ in range(64)]

    def cpu_ms(requests: int) -> float:
        began = measure.cpu_seconds(door)

        def client(first: int) -> None:
            for number in range(first, requests, _CLIENTS):
                _ms(door.send(calls[number % len(calls)], 0))

        gevent.joinall([gevent.spawn(client, n) for n in range(_CLIENTS)], raise_error=True)
        return 1000 * (measure.cpu_seconds(door) - began) / requests

    pairs, requests = max(1, options.pairs // _PARTS), max(1, options.requests // _PARTS)
    parts = [(added(pairs), cpu_ms(requests)) for _ in range(_PARTS)]
    added_ms, cost_ms = zip(*parts, strict=True)
    return {
        "added_ms": statistics.median(added_ms),
        "added_ms_best": min(added_ms),
        "cpu_ms": statistics.median(cost_ms),
        "cpu_ms_best": min(cost_ms),
        "requests_per_core_second": 1000 / statistics.median(cost_ms),
        "requests_per_core_second_best": 1000 / min(cost_ms),
    }


def _ms(record: Any) -> float:
    if not record.ok:
        sys.exit(f"a request failed: {record.error_kind}: {record.error}")
    return 1000 * record.latency


def _show(row: dict[str, Any]) -> None:
    said = ""
    if row["router"].startswith("freehold prefix"):
        added, rate = _AIMS[row["body"]]
        met = row["added_ms_best"] <= added and row["requests_per_core_second_best"] >= rate
        said = f"{added} ms, {rate:,}/s: {'met' if met else 'MISSED'}"
    columns = [
        f"{row['added_ms']:>9.2f}{row['added_ms_best']:>7.2f}",
        f"{row['cpu_ms']:>9.2f}{row['cpu_ms_best']:>7.2f}",
        f"{row['requests_per_core_second']:>12,.0f}{row['requests_per_core_second_best']:>7,.0f}",
    ]
    print(f"{row['router']:32}{row['body']:>8}{''.join(columns)}  {said}", flush=True)


_FILL = """
import psutil, sys
from freehold.gateway.picker.index import CAPACITY, PrefixIndex
before = psutil.Process().memory_info().rss
kept = [PrefixIndex() for _ in range(int(sys.argv[1]))]
for place, index in enumerate(kept):
    for first in range(0, 2 * CAPACITY, 4096):
        start = (place * 2 * CAPACITY + first) * 2**40 // 3
        index.add(range(start, start + 4096 * 2**30, 2**30))
    assert len(index) == CAPACITY
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def _picker_mib(workers: int) -> float:
    """Twice as much put in as an index holds: what it comes to, in a process of its own."""
    argv = [sys.executable, "-c", _FILL, str(workers)]
    return float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def _compiled_mib() -> dict[int, float]:
    """By its own benchmark (workloads/picker/index_test.go)."""
    argv = ["go", "test", "-run", "^$", "-bench", "Memory", "-benchtime", "1x", "."]
    done = subprocess.run(argv, cwd=compiled.SOURCES, capture_output=True, text=True, check=True)
    found = re.findall(r"^BenchmarkMemory/(\d+)\S*.* ([\d.]+) MiB$", done.stdout, re.MULTILINE)
    return {int(workers): float(mib) for workers, mib in found}


if __name__ == "__main__":
    main()
