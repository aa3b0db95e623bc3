"""Prometheus's configuration from a list of scrape targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# Every 5 s: a laptop run is minutes long, and a rate needs at least two samples in its window.
SCRAPE_SECONDS = 5


@dataclass(frozen=True)
class Target:
    """One place to scrape. `job` is the kind of process (engine, gateway, ...)."""

    job: str
    address: str
    """host:port"""
    path: str = "/metrics"
    pool: str | None = None
    worker: str | None = None


def prometheus_config(
    targets: Iterable[Target],
    rule_files: Sequence[str] = (),
    scrape_seconds: float = SCRAPE_SECONDS,
) -> dict[str, Any]:
    """A Prometheus configuration with one job for each kind of process.

    The labels `pool` and `worker` are ours: engines know neither name. Rules are evaluated as often as
    targets are scraped.
    """
    interval = f"{round(scrape_seconds * 1000)}ms"
    jobs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for target in targets:
        labels = {"pool": target.pool, "worker": target.worker}
        jobs.setdefault((target.job, target.path), []).append(
            {
                "targets": [target.address],
                "labels": {name: value for name, value in labels.items() if value is not None},
            }
        )
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        **({"rule_files": list(rule_files)} if rule_files else {}),
        "scrape_configs": [
            {"job_name": job, "metrics_path": path, "static_configs": static}
            for (job, path), static in jobs.items()
        ],
    }
