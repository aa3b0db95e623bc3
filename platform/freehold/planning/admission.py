"""How many requests a worker takes, waiting ones included, so that whoever is admitted is answered in time.

Beyond them the engine answers 503 at once, the gateway tries another worker, and the client comes back."""

from __future__ import annotations

import math

from freehold.gateway.picker.policy import LOAD_FACTOR

from .forecast import Forecaster
from .options import Placed

# Of the typical requests that the KV cache holds. Conversations are of all lengths: with a place for each
# typical one, a long one already waits until another ends. In virtual time (the simulated engine's scheduler,
# 2026-11-24; docs/decisions/0074-admission.md) `medium` at 9 of 12 requests gives 95 in 100 their first token
# within 8.4 s, at 10 within 15 s, at 12 within 50 s, and answers as many a second.
_HELD_SHARE = 0.75


def most_unfinished(placed: Placed, replicas: int) -> int | None:
    """vLLM's --max-num-queued-reqs, which counts running and waiting requests alike. The plan's own load
    always has a place. None where no first token is promised."""
    promised = placed.wanted.pool.objectives.median_ttft_ms
    forecast, fit = placed.forecast, placed.fit
    if promised is None or forecast is None or forecast.parts is not None:
        return None
    # What the gateway gives a worker at most, of the mean.
    planned = math.ceil(LOAD_FACTOR * forecast.concurrency / replicas) + 1
    held = fit.sequences
    if fit.kv_tokens is not None:
        held = min(held, int(_HELD_SHARE * fit.kv_tokens / fit.tokens))
    in_time = Forecaster(placed.wanted, fit).most_within(promised, held)
    return max(planned, in_time)
