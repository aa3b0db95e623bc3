"""Memory shares of pools on one GPU: what adds up, and who gets the rest."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.catalog.gpus import Gpu
from freehold.catalog.models import Checkpoint

from .memory import DEFAULT_SHARE, gpu_gib, keeps_kv
from .sizing import Wanted, share_of, smallest_gib


def shares(
    unit: Sequence[Wanted], checkpoints: Sequence[Checkpoint], gpu: Gpu
) -> list[float | None] | str:
    """The memory share of each pool of a unit; None is vLLM's own default, for a pool alone.

    Each gets what it must have; pools that generate divide the rest as their needs are to each
    other, because a larger KV cache serves them (without such, pools that keep a KV cache at all).
    All together stay within the share that one engine would take.
    """
    if len(unit) == 1:
        return [None]
    least = [
        wanted.pool.engine.memory_share or share_of(smallest_gib(wanted, checkpoint, gpu), gpu)
        for wanted, checkpoint in zip(unit, checkpoints, strict=True)
    ]
    spare = round(DEFAULT_SHARE - sum(least), 4)
    if spare < 0:
        needs = ", ".join(
            f"{wanted.pool.name} {share * gpu_gib(gpu):.1f}"
            for wanted, share in zip(unit, least, strict=True)
        )
        return (
            f"together they need {sum(least) * gpu_gib(gpu):.1f} GiB ({needs}), one {gpu.name} "
            f"gives {DEFAULT_SHARE * gpu_gib(gpu):.1f}"
        )
    eaters = [wanted.pool.role == "generate" for wanted in unit]
    if not any(eaters):
        eaters = [keeps_kv(wanted.model) for wanted in unit]
    hungry = [
        share if eats and not wanted.pool.engine.memory_share else 0.0
        for wanted, share, eats in zip(unit, least, eaters, strict=True)
    ]
    # Rounded down to a hundredth, so that rounding never takes more than there is.
    return [
        int((share + spare * weight / (sum(hungry) or 1.0)) * 100 + 1e-6) / 100
        for share, weight in zip(least, hungry, strict=True)
    ]
