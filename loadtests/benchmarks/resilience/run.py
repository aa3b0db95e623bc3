"""What clients notice when something breaks, and for how long. From the repository's root:

    python -m loadtests.benchmarks.resilience.run                     # each fault: about 40 s
    python -m loadtests.benchmarks.resilience.run kill hang --seconds 20 --out DIR
    python -m loadtests.benchmarks.resilience.run overload --overload-seconds 300

Four simulated engines behind two real gateways and a picker, half of their seats busy. Each fault lasts for a
while and is taken back; load goes on before, during and after. A request is bad when it fails, or when its
first token takes three times as long as the slowest twentieth before the fault.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gevent
import numpy as np

from freehold.load.client import Call
from freehold.load.record import RequestRecord

from .. import markdown
from ..routing.workloads import hot_prompt
from .site import FAULTS, SEATS, WORKERS, Fault, Site, site

_CLIENTS = WORKERS * SEATS // 2
_BAD_TIMES = 3.0
_REFUSED = ("http 429", "http 503")


@dataclass(frozen=True)
class Effect:
    """Of the requests of the tenant that does nothing wrong. Times in milliseconds where not in seconds."""

    fault: str
    what: str
    requests: int
    failed: dict[str, int]
    refused: int
    """429 and 503: told to come back, which is no failure under overload."""
    refusal_ms: float | None
    """Until a refusal was there, slowest twentieth."""
    ttft_p95_before: float
    ttft_p95_during: float
    ttft_p95_after: float
    longest_seconds: float
    bad_for_seconds: float
    """From the fault's beginning to the start of the last bad request while it lasted."""
    bad_afterwards_seconds: float
    """The same from its end."""
    memory_mib_before: float
    memory_mib_after: float


class Load:
    """Clients that go on until told to stop."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._calls = [conversation[0] for conversation in hot_prompt(0, 1.0).conversations]
        self._sent = 0
        self.records: list[RequestRecord] = []

    def clients(self, count: int) -> list[gevent.Greenlet]:
        return [gevent.spawn(self._client) for _ in range(count)]

    def flood(self, count: int) -> list[gevent.Greenlet]:
        return [gevent.spawn(self._flooder) for _ in range(count)]

    def _client(self) -> None:
        """Does as it is told: comes back after a second when refused, and not in step with others."""
        while True:
            record = self._site.send(self._next(), 0)
            self.records.append(record)
            if record.error_kind in _REFUSED:
                gevent.sleep(1 + random.random())
            elif record.error_kind:
                gevent.sleep(0.1)

    def _flooder(self) -> None:
        while True:
            self._site.send(self._next(), 1)

    def _next(self) -> Call:
        self._sent += 1
        return self._calls[self._sent % len(self._calls)]


def run(name: str, fault: Fault, seconds: float, lasts: float | None = None) -> Effect:
    """`seconds` of load before (half) and after, and while the fault lasts unless it `lasts` longer."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder)) as made:
        load = Load(made)
        steady = load.clients(_CLIENTS)
        gevent.sleep(2)  # caches fill, connections open
        load.records.clear()
        gevent.sleep(seconds / 2)
        memory = made.memory_mib()
        began = time.perf_counter()
        fault.begin(made)
        more = load.clients(fault.clients) + load.flood(fault.flood)
        gevent.sleep(lasts or seconds)
        gevent.killall(more)
        fault.end(made)
        ended = time.perf_counter()
        gevent.sleep(seconds)
        after = made.memory_mib()
        gevent.killall(steady)
        return _effect(name, fault, load.records, began, ended, memory, after)


def _effect(
    name: str,
    fault: Fault,
    records: Sequence[RequestRecord],
    began: float,
    ended: float,
    memory_before: float,
    memory_after: float,
) -> Effect:
    before = [r for r in records if r.started < began]
    during = [r for r in records if began <= r.started < ended]
    after = [r for r in records if r.started >= ended]
    usual = _p95(before) / 1000
    refusals = [1000 * (r.latency or 0) for r in records if r.error_kind in _REFUSED]

    def bad(record: RequestRecord) -> bool:
        return not record.ok or (record.ttft or 0) > _BAD_TIMES * usual

    return Effect(
        fault=name,
        what=fault.what,
        requests=len(records),
        failed=dict(
            Counter(r.error_kind for r in records if r.error_kind and r.error_kind not in _REFUSED)
        ),
        refused=len(refusals),
        refusal_ms=float(np.percentile(refusals, 95)) if refusals else None,
        ttft_p95_before=1000 * usual,
        ttft_p95_during=_p95(during),
        ttft_p95_after=_p95(after),
        longest_seconds=max((r.latency or 0.0 for r in records), default=0.0),
        bad_for_seconds=max((r.started - began for r in during if bad(r)), default=0.0),
        bad_afterwards_seconds=max((r.started - ended for r in after if bad(r)), default=0.0),
        memory_mib_before=memory_before,
        memory_mib_after=memory_after,
    )


def _p95(records: Sequence[RequestRecord]) -> float:
    ttfts = [1000 * r.ttft for r in records if r.ok and r.ttft is not None]
    return float(np.percentile(ttfts, 95)) if ttfts else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="all when none")
    parser.add_argument("--seconds", type=float, default=15.0, help="that each lasts")
    parser.add_argument("--overload-seconds", type=float, help="that one lasts; as the others")
    parser.add_argument("--out", type=Path, help="folder for resilience.json and resilience.md")
    options = parser.parse_args()
    effects = []
    for name in options.faults or FAULTS:
        overload = options.overload_seconds if name == "overload" else None
        effects.append(run(name, FAULTS[name], options.seconds, overload))
        print(_row(effects[-1]), flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        told = [dataclasses.asdict(effect) for effect in effects]
        (options.out / "resilience.json").write_text(json.dumps(told, indent=2) + "\n")
        lines = markdown.table(_HEAD, map(_cells, effects))
        (options.out / "resilience.md").write_text("\n".join(lines) + "\n")
    if any(effect.requests == 0 for effect in effects):
        sys.exit("no request was answered: is the machine too busy?")


_HEAD = (
    *("fault", "requests", "failed", "refused (in ms)", "TTFT p95 before", "during", "after"),
    *("longest, s", "bad for, s", "bad afterwards, s", "MiB"),
)


def _cells(effect: Effect) -> Iterator[str]:
    failed = ", ".join(f"{count} {kind}" for kind, count in effect.failed.items())
    yield effect.what
    yield str(effect.requests)
    yield failed or "0"
    yield "0" if not effect.refused else f"{effect.refused} ({effect.refusal_ms:.0f})"
    for p95 in (effect.ttft_p95_before, effect.ttft_p95_during, effect.ttft_p95_after):
        yield f"{p95:,.0f}"
    yield f"{effect.longest_seconds:.1f}"
    yield f"{effect.bad_for_seconds:.1f}"
    yield f"{effect.bad_afterwards_seconds:.1f}"
    yield f"{effect.memory_mib_before:.0f} to {effect.memory_mib_after:.0f}"


def _row(effect: Effect) -> str:
    said = dict(zip(_HEAD, _cells(effect), strict=True))
    return f"\n{effect.fault}\n" + "\n".join(f"  {key:18} {cell}" for key, cell in said.items())


if __name__ == "__main__":
    main()
