"""What clients that hold on, dawdle, vanish or flood do to the others, and what is left of it. From the
repository's root:

    python -m loadtests.benchmarks.soak.run                          # all but the soak: about ten minutes
    python -m loadtests.benchmarks.soak.run idle headers --out DIR
    python -m loadtests.benchmarks.soak.run soak --minutes 30 --out DIR

Six simulated engines before the real gateway and picker, half busy with clients that do nothing wrong; beside
them, in a process of its own, the case. The soak has no others: 80 % of all seats busy, for as long as told.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from gevent import subprocess

from freehold.load.record import RequestRecord

from .. import markdown
from . import hostile
from .site import FIRST_PORT, OTHER_KEY, POOLED_SEATS, SEATS, WORKERS, Site, site
from .traffic import Traffic
from .watch import Sample, Slope, Watch, slope_of

WHAT = {
    "idle": "{count} streams that have got a token and then nothing",
    "readers": "{count} clients that take a byte a second of an answer without end",
    "halfopen": "{count} connections that say nothing, or half a head, body or chunk",
    "vanished": "{count} streams whose client is gone without a word",
    "headers": "{count} connections that send 300 KB of header, or 200 or 10,000 headers, without pause",
    "bodies": "{count} connections that send 40 MiB without pause, half of them without a key",
    "largest": "{count} connections that send chats of 31 MiB without pause",
    "connections": "{count} connections without a key: most silent, the rest anew each second",
    "soak": "80 % of the seats busy",
}
# Half a request is waited for longer than that.
_AT_LEAST = {"halfopen": 130.0}
_SETTLE_SECONDS = 60.0
# The traffic itself opens and closes as many connections as it has clients, on both sides.
_ROOM = 2 * (WORKERS * SEATS + 2 * POOLED_SEATS)
_HALF_BUSY, _SOAK_BUSY = 0.5, 0.8


@dataclass(frozen=True)
class Held:
    """Of one process of the gateway."""

    before: float
    peak: float
    after: float


@dataclass(frozen=True)
class Effect:
    """Of the clients that do nothing wrong, and on the gateway. Milliseconds where nothing is said."""

    case: str
    what: str
    requests: int
    """While it lasted."""
    failed: dict[str, int]
    """At any time."""
    before: dict[str, tuple[float, float, float]]
    """By endpoint: median, slowest twentieth and slowest, of the first token where it is streamed."""
    during: dict[str, tuple[float, float, float]]
    others: dict[str, Any]
    """What the others were told."""
    envoy_mib: Held
    picker_mib: Held
    envoy_slope: Slope
    """From when all had begun until the end."""
    picker_slope: Slope
    envoy_files: Held
    picker_files: Held
    sockets_mib: Held
    left: dict[str, int]
    """Not back within a minute of the end."""
    stub: dict[str, int]
    samples: list[Sample]


def run(case: str, seconds: float, first_port: int, count: int | None = None) -> Effect:
    seconds = max(seconds, _AT_LEAST.get(case, 0.0))
    with tempfile.TemporaryDirectory() as folder, site(Path(folder), first_port) as made:
        traffic = Traffic(made, _HALF_BUSY)
        gevent.sleep(5)  # connections open, caches fill
        watch = Watch(made)
        traffic.records.clear()
        usual = _open_now(made)
        quiet = time.perf_counter()
        gevent.sleep(seconds / 2)
        began = time.perf_counter()
        count = count or hostile.CASES[case][1]
        others = _others(case, count, made)
        others.stdout.readline()
        steady = time.perf_counter()
        gevent.sleep(seconds)
        stub = made.stub_counters()
        told = json.loads(others.communicate(b"")[0])
        ended = time.perf_counter()
        left = _left(made, usual)
        traffic.stop()
        watch.stop()
        return _effect(
            case,
            WHAT[case].format(count=f"{count:,}"),
            traffic.records,
            watch,
            (quiet, began, steady, ended),
            others=told,
            left=left,
            stub=stub,
        )


def soak(seconds: float, first_port: int) -> Effect:
    """Its first third is not fitted: allocators and caches fill."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder), first_port) as made:
        traffic = Traffic(made, _SOAK_BUSY)
        gevent.sleep(5)
        watch = Watch(made)
        traffic.records.clear()
        usual = _open_now(made)
        began = time.perf_counter()
        gevent.sleep(seconds)
        ended = time.perf_counter()
        third = began + (ended - began) / 3
        traffic.stop()
        left = _left(made, usual)
        watch.stop()
        return _effect(
            "soak",
            f"{WHAT['soak']}, {seconds / 60:.0f} minutes",
            traffic.records,
            watch,
            (began, third, third, ended),
            others={},
            left=left,
            stub={},
        )


def _others(case: str, count: int, made: Site) -> Any:
    argv = [sys.executable, "-m", "loadtests.benchmarks.soak.hostile", case]
    argv += [str(made.gateway.port), OTHER_KEY, str(count)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _open_now(made: Site) -> dict[str, int]:
    return {
        "Envoy's file descriptors": made.envoy.num_fds(),
        "the picker's file descriptors": made.picker.num_fds(),
        "streams at the engine": made.stub_counters()["open"],
        "in flight by the picker": made.in_flight(),
    }


def _left(made: Site, usual: dict[str, int]) -> dict[str, int]:
    """What is more than before by more than the traffic's own ups and downs."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        now = _open_now(made)
        left = {name: now[name] - usual[name] for name in now if now[name] > usual[name] + _ROOM}
        if not left or time.monotonic() > deadline:
            return left
        gevent.sleep(1)


def _effect(
    case: str,
    what: str,
    records: Sequence[RequestRecord],
    watch: Watch,
    times: tuple[float, float, float, float],
    **more: Any,
) -> Effect:
    quiet, began, steady, ended = times
    samples = [dataclasses.replace(s, at=s.at - quiet) for s in watch.samples]

    def held(name: str) -> Held:
        before = [getattr(s, name) for s in watch.between(0, began)]
        during = [getattr(s, name) for s in watch.between(began, ended)]
        return Held(before[-1], max(during), getattr(samples[-1], name))

    def slope(name: str) -> Slope:
        fitted = watch.between(steady, ended)
        return slope_of([s.at for s in fitted], [getattr(s, name) for s in fitted])

    during = [r for r in records if began <= r.started < ended]
    return Effect(
        case=case,
        what=what,
        requests=len(during),
        failed=dict(Counter(r.error_kind for r in records if r.error_kind)),
        before=_waits([r for r in records if r.started < began]),
        during=_waits(during),
        envoy_mib=held("envoy_mib"),
        picker_mib=held("picker_mib"),
        envoy_slope=slope("envoy_mib"),
        picker_slope=slope("picker_mib"),
        envoy_files=held("envoy_files"),
        picker_files=held("picker_files"),
        sockets_mib=held("sockets_mib"),
        samples=samples,
        **more,
    )


def _waits(records: Sequence[RequestRecord]) -> dict[str, tuple[float, float, float]]:
    found = {}
    for name in sorted({record.name for record in records}):
        waits = [
            1000 * (r.latency or 0.0 if r.ttft is None else r.ttft)
            for r in records
            if r.ok and r.name == name
        ]
        if waits:
            p50, p95 = np.percentile(waits, (50, 95))
            found[name] = (float(p50), float(p95), max(waits))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", choices=[*WHAT, []], help="all but the soak when none")
    parser.add_argument("--seconds", type=float, default=30.0, help="that each case lasts")
    parser.add_argument("--minutes", type=float, default=30.0, help="that the soak lasts")
    parser.add_argument("--count", type=int, help="of the others, instead of each case's own")
    parser.add_argument("--first-port", type=int, default=FIRST_PORT, help="of eleven")
    parser.add_argument("--out", type=Path, help="folder for soak.json and soak.md")
    options = parser.parse_args()
    effects = []
    for case in options.cases or hostile.CASES:
        effect = (
            soak(60 * options.minutes, options.first_port)
            if case == "soak"
            else run(case, options.seconds, options.first_port, options.count)
        )
        effects.append(effect)
        print("\n".join(_told(effect)), flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        told = [dataclasses.asdict(effect) for effect in effects]
        (options.out / "soak.json").write_text(json.dumps(told, indent=2) + "\n")
        lines = markdown.table(_HEAD, map(_cells, effects))
        (options.out / "soak.md").write_text("\n".join(lines) + "\n")
    if any(effect.failed or effect.left for effect in effects):
        sys.exit(1)


def _told(effect: Effect) -> Iterator[str]:
    yield f"\n{effect.case}: {effect.what}"
    failed = ", ".join(f"{count} {kind}" for kind, count in effect.failed.items())
    yield f"  {effect.requests} requests beside it, failed: {failed or 'none'}"
    yield f"  {'ms':14}{'before: p50':>14}{'p95':>8}{'longest':>9}{'during: p50':>14}{'p95':>8}{'longest':>9}"
    for name, during in effect.during.items():
        before = effect.before.get(name, (float("nan"),) * 3)
        cells = [
            f"{value:>{width},.0f}"
            for value, width in zip((*before, *during), (14, 8, 9) * 2, strict=True)
        ]
        yield f"  {name:14}{''.join(cells)}"
    yield f"  {'':24}{'before':>8}{'peak':>8}{'after':>8}   MiB an hour"
    rows = (
        ("Envoy, MiB", effect.envoy_mib, effect.envoy_slope),
        ("picker, MiB", effect.picker_mib, effect.picker_slope),
        ("Envoy, open files", effect.envoy_files, ""),
        ("picker, open files", effect.picker_files, ""),
        ("the kernel's sockets, MiB", effect.sockets_mib, ""),
    )
    for name, held, slope in rows:
        yield f"  {name:26}{held.before:>6.0f}{held.peak:>8.0f}{held.after:>8.0f}   {slope}"
    for said, count in sorted(effect.others.get("got", {}).items()):
        slowest = effect.others["slowest_seconds"].get(said)
        yield f"  others: {count} times {said}" + (f", at most {slowest:.1f} s" if slowest else "")
    if effect.others:
        yield f"  others that were still there at the end: {effect.others['still_there']}"
    if effect.stub.get("begun"):
        yield f"  the engine without end: {effect.stub}"
    left = ", ".join(f"{count} {name}" for name, count in effect.left.items())
    yield f"  a minute later: {left or 'all is back'}"


_HEAD = (
    *("case", "requests beside it", "failed", "TTFT p50 before, during", "p95 before, during"),
    *("longest, s", "Envoy, MiB: before, peak, after", "picker, MiB", "MiB an hour", "afterwards"),
)


def _cells(effect: Effect) -> Iterator[str]:
    before, during = effect.before["chat"], effect.during["chat"]
    yield effect.what
    yield str(effect.requests)
    yield ", ".join(f"{count} {kind}" for kind, count in effect.failed.items()) or "0"
    yield f"{before[0]:.0f}, {during[0]:.0f}"
    yield f"{before[1]:.0f}, {during[1]:.0f}"
    yield f"{max(waits[2] for waits in effect.during.values()) / 1000:.1f}"
    for held in (effect.envoy_mib, effect.picker_mib):
        yield f"{held.before:.0f}, {held.peak:.0f}, {held.after:.0f}"
    yield f"{effect.envoy_slope}; {effect.picker_slope}"
    yield ", ".join(f"{count} {name}" for name, count in effect.left.items()) or "all is back"


if __name__ == "__main__":
    main()
