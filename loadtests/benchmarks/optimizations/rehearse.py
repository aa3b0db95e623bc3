"""Rehearse each optimization with and without: the figures of the pages in docs/optimizations.

    .venv/bin/python loadtests/benchmarks/optimizations/rehearse.py [--only TOPIC] [--whole]

In virtual time, which takes seconds and gives the same figures on any machine. What needs several workers is
rehearsed with `--whole`: `freehold rehearse`, in real time, three runs of a minute or two on a machine that
does nothing else. Their results go to docs/optimizations/whole.json.
`.venv/bin/python tests/docs/generated.py` then writes the tables of the pages.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import virtual_time  # pyright: ignore[reportMissingImports]  (beside this script)
import yaml
from cases import Case, Tree, cases  # pyright: ignore[reportMissingImports]

from freehold.config import parse_stack
from freehold.planning.plan import Plan, make_plan

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "optimizations" / "whole.json"
FREEHOLD = Path(sys.executable).with_name("freehold")
# The machine was too busy for a run to mean anything: it is tried again, so many times in all.
INVALID, TRIES = 3, 3
# Medians as the load test defines them, and what all workers give together.
FIGURES = {
    "median_ttft_ms": "TTFT, ms",
    "median_tpot_ms": "TPOT, ms",
    "output_throughput": "tokens a second",
}
# What else tells the cases of a topic apart.
_MORE = {
    "prefix-caching": ("cached", "cached"),
    "kv-cache-tiers": ("cached", "cached"),
    "disaggregated-prefill": ("p99_itl_ms", "99 % of ITL below, ms"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted({case.topic for case in cases()}))
    parser.add_argument("--whole", action="store_true", help="whole stacks, in real time")
    parser.add_argument("--ports-from", type=int, default=21000, help="a hundred of them are taken")
    options = parser.parse_args()
    for topic in dict.fromkeys(case.topic for case in cases()):
        if options.only in (None, topic):
            if options.whole:
                _rehearse(topic, options.ports_from)
            print(f"\n{topic}")
            print_table([headings(topic), *rows(topic)])


def headings(topic: str) -> tuple[str, ...]:
    more = [_MORE[topic][1]] if topic in _MORE else []
    return "", "in flight", *(f"{label}: plan → rehearsed" for label in FIGURES.values()), *more


def rows(topic: str) -> Iterator[tuple[str, ...]]:
    """The topic's table; a whole stack that nobody has rehearsed yet is not in it."""
    whole = _results()
    for case in cases():
        if case.topic != topic:
            continue
        found = whole.get(_key(case)) if case.whole else _in_virtual_time(case)
        if found:
            yield case.title, f"{_users(case)}", *_figures(case, found)


def _figures(case: Case, found: dict[str, Any]) -> Iterator[str]:
    # The plan of a stack says nothing of more than its demand.
    planned = _plan(case.stack).pools[0].predicted if case.load == 1 else None
    for name in FIGURES:
        promised = f"{getattr(planned, name):,.0f}" if planned else "-"
        yield f"{promised} → {found[name]:,.0f}"
    if case.topic in _MORE:
        value = found[_MORE[case.topic][0]]
        yield f"{value:.0%}" if value <= 1 else f"{value:,.0f}"


def print_table(cells: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _in_virtual_time(case: Case) -> dict[str, float]:
    plan, sent = _plan(case.stack), _plan(case.demand_of or case.stack).pools[0].demand
    assert sent and plan.pools[0].replicas == 1  # the figures of one worker are those of all
    return virtual_time.run(plan, sent, _users(case))


def _plan(tree: Tree) -> Plan:
    return make_plan("case", parse_stack(tree, "case"))


def _users(case: Case) -> int:
    return case.stack["pools"][0]["demand"]["concurrency"] * case.load


# --- Whole stacks -------------------------------------------------------------------------------------


def _results() -> dict[str, dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _key(case: Case) -> str:
    return f"{case.topic}: {case.title}"


def _rehearse(topic: str, port: int) -> None:
    """Each result is kept as soon as it is there; where every try was invalid the old one stays."""
    for case in cases():
        if case.whole and case.topic == topic and (report := _report(case, port)):
            results = _results() | {_key(case): _of(report)}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _report(case: Case, port: int) -> dict[str, Any] | None:
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="freehold-rehearse-") as folder:
            _prepare(case.stack, Path(folder), port)
            command = ["rehearse", "case", "--load", str(case.load), "--out", "out"]
            print(f"\n{case.topic}: {case.title}\n$ freehold", *command, flush=True)
            done = subprocess.run([str(FREEHOLD), *command], cwd=folder, check=False)
            if done.returncode in (0, 1):
                return json.loads((Path(folder) / "out" / "report.json").read_text())
        if done.returncode != INVALID:
            sys.exit(done.returncode)
    return None


def _prepare(tree: Tree, folder: Path, port: int) -> None:
    """A checkout of this stack file alone."""
    (folder / "loadtests").symlink_to(ROOT / "loadtests")
    (folder / ".freehold").mkdir()
    for shared in ("tools", "corpora"):
        (ROOT / ".freehold" / shared).mkdir(parents=True, exist_ok=True)
        (folder / ".freehold" / shared).symlink_to(ROOT / ".freehold" / shared)
    tree = tree | {"gateway": {"port": port}, "engine_ports_from": port + 20}
    if "cache" in tree:
        tree["cache"] = tree["cache"] | {"port": port + 10}
    text = yaml.safe_dump({"config": {"freehold:stack": tree}}, sort_keys=False)
    (folder / "Pulumi.case.yaml").write_text(text, encoding="utf-8")


def _of(report: dict[str, Any]) -> dict[str, Any]:
    figures = {name: report["steady"].get(name, report[name]) for name in (*FIGURES, "p99_itl_ms")}
    return {
        "date": datetime.date.today().isoformat(),
        **{name: round(value, 2) for name, value in figures.items()},
        "cached": round(report["server"]["cache_hit_share"], 3),
        "answers": report["completed"],
    }


if __name__ == "__main__":
    main()
