"""How long the admitted wait for their first token under any overload, by how many a worker admits:

    .venv/bin/python loadtests/benchmarks/optimizations/admission.py [small medium large]

In virtual time: each place that a worker has is always taken, as when far more clients knock than it can
answer. Beside the limit that the plan sets (docs/decisions/0074-admission.md) stand one more, what the KV
cache holds of the demand's requests, and 64, which every preset said before. Where prompts are long, minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import virtual_time  # pyright: ignore[reportMissingImports]  (beside this script)

from freehold.config import load_stack
from freehold.planning.plan import Plan, make_plan

ROOT = Path(__file__).parents[3]
_BEFORE = 64
# Of the aim: the 95th percentile of the admitted stays within so many times what is promised as the median.
_TIMES = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stacks", nargs="*", default=["small", "medium", "large"])
    _print("", "most", "p50, s", "p95, s", "answers/s", "aim for p95, s")
    for stack in parser.parse_args().stacks:
        plan = make_plan(stack, load_stack(stack, ROOT))
        for most, what in limits(plan).items():
            _print(f"{stack}, {what}", *_row(plan, most))


def _print(what: str, *cells: str) -> None:
    print(f"{what:32}" + "".join(f"{cell:>15}" for cell in cells), flush=True)


def limits(plan: Plan) -> dict[int, str]:
    """How many at once, and whose word that is."""
    pool = plan.pools[0]
    planned = pool.settings.options.max_queued_requests
    assert planned and pool.sizing
    held = pool.sizing.max_typical_concurrency // pool.replicas
    return {
        planned: "the plan's",
        planned + 1: "one more",
        held: "what the KV cache holds",
        _BEFORE: "before",
    }


def found(plan: Plan, most: int) -> dict[str, float]:
    demand = plan.pools[0].demand
    assert demand
    return virtual_time.run(plan, demand, most)


def aim_of(plan: Plan) -> float:
    """Seconds."""
    promised = plan.pools[0].objectives.median_ttft_ms
    assert promised
    return _TIMES * promised / 1000


def _row(plan: Plan, most: int) -> tuple[str, ...]:
    figures, aim = found(plan, most), aim_of(plan)
    p50, p95 = figures["median_ttft_ms"] / 1000, figures["p95_ttft_ms"] / 1000
    rate = f"{figures['requests_per_second']:.2f}"
    return (
        f"{most}",
        f"{p50:.2f}",
        f"{p95:.2f}",
        rate,
        f"{aim:.1f}: {'met' if p95 <= aim else 'missed'}",
    )


if __name__ == "__main__":
    main()
