"""How long the admitted wait for their first token under any overload, by how many a worker admits:

    .venv/bin/python loadtests/benchmarks/optimizations/admission.py [small medium large]

In virtual time: each place that a worker has is always taken, as when far more clients knock than it can
answer. Beside the limit that the plan sets (docs/decisions/0074-admission.md) stand what the KV cache holds of
the demand's requests, and 64, which every preset said before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import virtual_time  # pyright: ignore[reportMissingImports]  (beside this script)
from rehearse import print_table  # pyright: ignore[reportMissingImports]

from freehold.config import load_stack
from freehold.planning.plan import Plan, make_plan

ROOT = Path(__file__).parents[3]
_BEFORE = 64
# Of the aim: the 95th percentile of the admitted stays within so many times what is promised as the median.
_TIMES = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stacks", nargs="*", default=["small", "medium", "large"])
    rows = [("", "most", "TTFT p50, s", "p95, s", "aim", "requests/s of a worker")]
    for stack in parser.parse_args().stacks:
        plan = make_plan(stack, load_stack(stack, ROOT))
        rows += [_row(stack, plan, most, what) for most, what in limits(plan).items()]
    print_table(rows)


def limits(plan: Plan) -> dict[int, str]:
    """How many at once, and whose word that is."""
    pool = plan.pools[0]
    planned = pool.settings.options.max_queued_requests
    assert planned and pool.sizing
    held = pool.sizing.max_typical_concurrency // pool.replicas
    return {
        _BEFORE: "before",
        held: "what the KV cache holds",
        planned + 1: "one more",
        planned: "the plan's",
    }


def found(plan: Plan, most: int) -> dict[str, float]:
    demand = plan.pools[0].demand
    assert demand
    return virtual_time.run(plan, demand, most)


def _row(stack: str, plan: Plan, most: int, what: str) -> tuple[str, ...]:
    figures = found(plan, most)
    p50, p95 = figures["median_ttft_ms"] / 1000, figures["p95_ttft_ms"] / 1000
    promised = plan.pools[0].objectives.median_ttft_ms / 1000
    aim = f"{_TIMES * promised:.1f}: {'met' if p95 <= _TIMES * promised else 'MISSED'}"
    rate = f"{figures['requests_per_second']:.2f}"
    return f"{stack}, {what}", f"{most}", f"{p50:.2f}", f"{p95:.2f}", aim, rate


if __name__ == "__main__":
    main()
