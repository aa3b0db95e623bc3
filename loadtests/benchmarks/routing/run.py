"""Routers side by side: the same workers, clients and requests for each. From the repository's root:

    python -m loadtests.benchmarks.routing.run                         # all of it: an hour and a half
    python -m loadtests.benchmarks.routing.run W1 W3 --rounds 1 --only "freehold prefix"
    python -m loadtests.benchmarks.routing.run W1 --router 'mine=my-router --port {port} --to {workers,}'
    python -m loadtests.benchmarks.routing.run W2 W3 --tenants 4       # what sealing tenants costs

Freehold's gateway with each of its policies, `vllm-router` with each of its (where the engine's group is
installed: `make env-cpu`), policies without any router in the way, and any other router. Workers are small
stand-ins (engine.py); `--workers URL,URL` takes simulated or real engines instead. The order of routers is
another in each round; caches are dropped and the router is started anew before every run. Times are this
machine's: leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from . import measure, report, routers
from .engine import CACHE_BLOCKS
from .workloads import WORKLOADS, Workload

_FIRST_PORT = 17_100
_SEED = 1000


def main() -> None:
    options = _options()
    with _workers(options) as workers:
        tables, told = [], []
        for name in options.workloads or WORKLOADS:
            results, best = _workload(name, options, workers)
            medians = [measure.median_of(of) for of in results.values()]
            heading = f"{name}: {WORKLOADS[name](0, 0.1).what}; {len(workers.workers)} workers"
            note = f"at best {best} % with one endless cache"
            aim = report.aim_of(medians, name) if options.scale == 1 else ""
            print(
                report.table(
                    heading,
                    medians,
                    "; ".join(filter(None, (note, aim, report.cost_of_sealing(medians)))),
                ),
                flush=True,
            )
            tables.append((heading, medians))
            told += [each for of in results.values() for each in report.as_json(of)]
    if options.out:
        machine = {
            "cpus": psutil.cpu_count(),
            "machine": platform.machine(),
            "rounds": options.rounds,
        }
        report.write(options.out, {**machine, "runs": told}, tables)
        print(f"\n{options.out / 'routing.html'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], help="all when none")
    parser.add_argument("--replicas", type=int, default=4, help="workers")
    parser.add_argument("--blocks", type=int, default=CACHE_BLOCKS, help="of a worker's cache")
    parser.add_argument("--workers", metavar="URL,URL", help="workers that run already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the requests")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of a router")
    parser.add_argument(
        "--router", action="append", default=[], metavar="NAME=URL|COMMAND", help="another router"
    )
    parser.add_argument(
        "--tenants", type=int, default=1, help="Freehold's prefix policy, unsealed and sealed"
    )
    parser.add_argument("--out", type=Path, help="folder for routing.json and routing.html")
    return parser.parse_args()


def _chosen(options: argparse.Namespace, workload: Workload) -> list[routers.Router]:
    others = []
    for given in options.router:
        name, _, what = given.partition("=")
        make = routers.at_url if what.startswith("http") else routers.outsider
        others.append(make(name, what))
    found = [*routers.ALL, *others]
    if options.tenants > 1:
        found = [router for router in found if router.name == "freehold prefix"]
    if not shutil.which("vllm-router", path=str(Path(sys.executable).parent)):
        found = [router for router in found if not router.name.startswith("vllm-router")]
    if len(workload.models) > 1:  # the others know one model
        found = [router for router in found if router.many_models]
    if options.only:
        found = [router for router in found if router.name in options.only]
    if not found:
        sys.exit(f"no such router; there are: {', '.join(router.name for router in routers.ALL)}")
    return found


def _workload(
    name: str, options: argparse.Namespace, workers: measure.Workers
) -> tuple[dict[tuple[str, bool], list[measure.Result]], str]:
    """Every run by router (and whether sealed), and the best hit share that any could reach."""
    results: dict[tuple[str, bool], list[measure.Result]] = {}
    best = ""
    for number in range(options.rounds):
        workload = WORKLOADS[name](_SEED + number, options.scale)
        best = f"{100 * workload.best_hit_share():.1f}"
        if options.tenants > 1:
            best += f" (sealed {100 * workload.best_hit_share(options.tenants):.1f})"
        runs = [(router, False) for router in _chosen(options, workload)]
        if options.tenants > 1:
            runs += [(router, True) for router, _ in runs]
        names = {(router.name, sealed): None for router, sealed in runs}
        results = results or {key: [] for key in names}
        random.Random(number).shuffle(runs)
        for place, (router, sealed) in enumerate(runs):
            if isinstance(workers, measure.Real):  # their caches cannot be dropped
                workload = WORKLOADS[name](hash((number, place)) & 0xFFFFFF, options.scale)
            with tempfile.TemporaryDirectory() as folder:
                setting = routers.Setting(workers.workers, workload, Path(folder), options.tenants)
                result = measure.run(router, replace(setting, sealed=sealed), workers)
            print(f"{name} round {number + 1}: {router.name}: {result.seconds:.1f} s", flush=True)
            results[router.name, sealed].append(result)
    return results, best


@contextmanager
def _workers(options: argparse.Namespace) -> Iterator[measure.Workers]:
    if options.workers:
        urls = [urlsplit(url) for url in options.workers.split(",")]
        yield measure.Real([(url.hostname or "127.0.0.1", url.port or 80) for url in urls])
        return
    with bench_workers(options.replicas, options.blocks) as workers:
        yield workers


@contextmanager
def bench_workers(count: int, blocks: int = CACHE_BLOCKS) -> Iterator[measure.Bench]:
    """The benchmark's own workers, in a process of their own, which ends with this one."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    argv = [sys.executable, "-m", f"{__package__}.engine", "--workers", str(count)]
    argv += ["--first-port", str(_FIRST_PORT), "--blocks", str(blocks)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            sys.exit("the workers did not start: is another benchmark running?")
        yield measure.Bench(count, _FIRST_PORT)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
