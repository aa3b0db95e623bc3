"""Why a promise was missed: by what was full in the engines meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from .server_side import Series, growth
from .verdict import Check, Promise

# vLLM's own limit of running requests where no stack file says one (`max_num_seqs`, 0.32).
_SEATS = 256
# From this share on nothing more fits: a request needs its whole prompt's blocks at once.
_FULL = 0.9


def reason(promise: Promise, missed: Sequence[Check], series: Sequence[Series]) -> str | None:
    """KV exhaustion, queue or speed; None when nothing was missed or nobody read the engines."""
    if not missed or not any(each.values for each in series):
        return None
    full = _full(promise.seats or _SEATS, series)
    if full or any(check.source == "failures" for check in missed):
        return full  # what failed is listed by kind; whatever else is missed comes of it
    return _speed(promise, missed)


def _full(seats: int, series: Sequence[Series]) -> str | None:
    def worst(name: str) -> float:
        return max((values.get(name, 0.0) for each in series for values in each.values), default=0)

    def total(name: str) -> float:
        return sum(growth(each, name) for each in series)

    waiting, fullest = worst("waiting"), worst("kv_cache_usage")
    if preemptions := total("preemptions"):
        return f"KV exhaustion: {preemptions:.0f} preemptions, the cache was {fullest:.0%} full"
    if waiting >= 1 and fullest > _FULL:
        return (
            f"KV exhaustion: the cache was {fullest:.0%} full, {waiting:.0f} requests waited for "
            "room in it"
        )
    if waiting >= 1 and worst("running") >= seats:
        return f"queue: all {seats} seats were taken, {waiting:.0f} requests waited"
    if rejections := total("rejections"):
        return f"queue: {rejections:.0f} requests were refused by a full queue"
    return None


def _speed(promise: Promise, missed: Sequence[Check]) -> str:
    predicted, wanted = promise.predicted, promise.objectives
    for name in ("median_ttft_ms", "median_tpot_ms"):
        limit = getattr(wanted, name)
        if predicted and limit is not None and getattr(predicted, name) > limit:
            return "speed: nothing was full; the prediction itself is above the objective"
    for check in missed:
        if check.metric == "median_tpot_ms":
            promised = check.expected or check.limit
            times = check.measured / promised
            return f"speed: nothing was full; each token took {times:.1f} times what was promised"
    return "speed: nothing was full; prompts that came together waited for each other's prefill"
