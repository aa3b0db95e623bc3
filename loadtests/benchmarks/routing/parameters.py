"""The prefix policy with other parameters than its own: where its defaults come from. From the root:

    python -m loadtests.benchmarks.routing.parameters [W1 W1L ...] [--rounds 3]

Without a router in the way, before the benchmark's workers: how far above the mean a worker may be
(`LOAD_FACTOR`), below which share of it a worker is idle (`IDLE_SHARE`), and from how many of the best by
weight the least loaded is taken (`CANDIDATES`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.gateway.picker import policy

from . import measure, report, routers
from .run import bench_workers
from .workloads import WORKLOADS

_TRIED = {
    "LOAD_FACTOR": (1.0, 1.1, 1.25, 1.5, 2.0),
    "IDLE_SHARE": (0.0, 0.25, 0.5, 0.75),
    "CANDIDATES": (1, 2, 3, 4),
}
_WORKLOADS = ("W1", "W1L", "W2", "W3", "W4", "slow", "embed", "rerank")
_SEED = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    router = next(each for each in routers.ALL if each.name == "no router, prefix")
    with bench_workers(4) as workers:
        for workload in options.workloads or _WORKLOADS:
            medians: dict[str, measure.Result] = {}
            for setting in _settings():
                with _set(setting):
                    runs = [_run(router, workload, n, workers) for n in range(options.rounds)]
                name = ", ".join(f"{name} {value}" for name, value in setting.items()) or "defaults"
                medians[name] = measure.median_of(runs)
                print(f"{workload}: {name}", flush=True)
            print(report.table(workload, [*medians.values()], names=[*medians]), flush=True)


def _settings() -> Iterator[dict[str, float]]:
    """The defaults, then one parameter at a time."""
    yield {}
    for name, values in _TRIED.items():
        yield from ({name: value} for value in values if value != getattr(policy, name))


def _run(router: routers.Router, name: str, number: int, workers: measure.Bench) -> measure.Result:
    with tempfile.TemporaryDirectory() as folder:
        workload = WORKLOADS[name](_SEED + number, 1.0)
        setting = routers.Setting(workers.workers, workload, Path(folder))
        return measure.run(router, setting, workers)


@contextmanager
def _set(setting: dict[str, float]) -> Iterator[None]:
    own = {name: getattr(policy, name) for name in setting}
    for name, value in setting.items():
        setattr(policy, name, value)
    try:
        yield
    finally:
        for name, value in own.items():
            setattr(policy, name, value)


if __name__ == "__main__":
    main()
