"""The calibration rows, run through the simulated engine's own scheduler in virtual time.

Each row is a closed loop: so many clients, each sending the next request when one is answered. What
the scheduler makes of step times (batching, chunked prefill, waiting) is compared with what was measured.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from freehold.planning.speed import Deployment
from freehold.planning.speed.rows import Row, loop_of, measured_rows

from .request import Request
from .scheduler import Limits, Scheduler
from .timing import of_deployment
from .tokens import Answer
from .virtual import Measured, closed_loop

_BLOCK = 16
# Engines of the measured rows ran with vLLM's defaults; without a limit this many never meet one.
_SEQUENCES = 1024
# The loop starts with all clients at once, which no steady state has: the first round is left out.
_ROUNDS = 4
# Answers differ in length by up to this share. The rows do not say how theirs did, but equal ones would
# keep requests in step, each round queueing behind the others' prompts: with 0 the simulated median TTFT
# of the rows is 1.5 times too long, and between 0.05 and 0.2 it changes by a few percent (2026-11-24).
_VARIES = 0.2


def run(every: int = 1) -> dict[str, Any]:
    """Run every so many-th row, print the errors and return them."""
    started = time.monotonic()
    errors = relative_errors(every)
    result: dict[str, Any] = {"rows": len(errors), "seconds": time.monotonic() - started}
    print(f"rows: {len(errors)} in virtual time, {result['seconds']:.0f} s")
    for place, name in enumerate(("TTFT", "TPOT")):
        result[name.lower()] = summary = _summary([error[place] for error in errors])
        print(
            f"  {name}: median absolute error {summary['median_absolute']:.1%}, "
            f"nine of ten within {summary['p90_absolute']:.1%}, bias {summary['bias']:+.1%}"
        )
    return result


def relative_errors(every: int = 1) -> list[tuple[float, float]]:
    """Of TTFT and TPOT, for every so many-th row that the catalog knows."""
    errors = []
    for cells in measured_rows()[::every]:
        row = Row.read(cells)
        if found := loop_of(row):
            ttft, tpot = simulate(row, found[0])
            measured = float(cells["ttft_ms"]) / 1e3, float(cells["tpot_ms"]) / 1e3
            errors.append((ttft / measured[0] - 1, tpot / measured[1] - 1))
    return errors


def _summary(errors: list[float]) -> dict[str, float]:
    absolute = sorted(map(abs, errors))
    return {
        "median_absolute": statistics.median(absolute),
        "p90_absolute": absolute[math.ceil(0.9 * len(absolute)) - 1],
        "bias": statistics.median(errors),
    }


def simulate(row: Row, deployment: Deployment) -> tuple[float, float]:
    """Median TTFT and TPOT of a row, seconds."""
    pace = of_deployment(deployment)
    budget = deployment.kv_budget_tokens
    limits = Limits(
        block_size=_BLOCK,
        blocks=max(1, budget // _BLOCK) if budget else 1 << 24,
        max_num_seqs=deployment.max_num_seqs or _SEQUENCES,
        max_num_batched_tokens=deployment.max_num_batched_tokens,
        max_model_len=int(row.input_tokens + row.output_tokens * (1 + _VARIES)) + 1,
        prefix_caching=False,
    )
    clients = int(row.concurrency)
    requests = _requests(row, clients * _ROUNDS)
    scheduler, chance = Scheduler(limits), random.Random(0)

    def outside(request: Request) -> float:
        return pace.outside(request.prompt, clients).seconds(chance.random())

    measured = list(closed_loop(scheduler, pace.step, requests, clients, outside))[clients:]
    return _median(measured, "ttft"), _median(measured, "tpot")


def _requests(row: Row, count: int) -> Iterator[Request]:
    chance = random.Random(0)
    for _ in range(count):
        output = max(1, round(row.output_tokens * chance.uniform(1 - _VARIES, 1 + _VARIES)))
        yield Request(
            b"",
            Answer.words(0, output),
            _Nobody(),
            block_size=_BLOCK,
            caching=False,
            length=int(row.input_tokens),
            max_tokens=output,
        )


class _Nobody:
    def produced(self, request: Request, count: int) -> None: ...

    def finished(self, request: Request) -> None: ...


def _median(measured: list[Measured], what: str) -> float:
    return statistics.median(getattr(one, what) for one in measured)
