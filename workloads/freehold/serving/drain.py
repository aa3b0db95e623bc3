"""How a pod goes in peace: three numbers that only work together.

A pod that is told to stop first keeps serving (preStop) until nobody sends it anything new, then ends
what it has begun, and is killed when the grace period, which holds both, is over.
"""

from __future__ import annotations

from dataclasses import dataclass

from freehold.planning.plan import PoolPlan

# A stopping pod leaves DNS at once, but CoreDNS answers from memory for 5 s and Envoy and the picker
# look up again every 5 s (gateway/clusters.py); the rest is for the control plane to be slow.
_PRE_STOP_SECONDS = 15
# For an answer of a pool that does not say how long its answers may take.
_DEFAULT_ENGINE_SECONDS = 120
# vLLM's processes take a few seconds to go after the last request; then the kubelet kills.
_MARGIN_SECONDS = 10
# EC2 takes a Spot instance away two minutes after the notice.
SPOT_NOTICE_SECONDS = 120


@dataclass(frozen=True)
class Drain:
    """Seconds."""

    pre_stop: int
    engine: int
    """vLLM's --shutdown-timeout: what running requests get after SIGTERM."""
    grace: int
    """terminationGracePeriodSeconds: both, and a margin."""


def drain_of(pool: PoolPlan) -> Drain:
    """The budgets of a pool's engines; on Spot all together fit the interruption notice."""
    asked = _asked(pool)
    if on_spot(pool):
        asked = min(asked, SPOT_NOTICE_SECONDS - _PRE_STOP_SECONDS - _MARGIN_SECONDS)
    return Drain(_PRE_STOP_SECONDS, asked, _PRE_STOP_SECONDS + asked + _MARGIN_SECONDS)


def cut_short(pool: PoolPlan) -> str | None:
    """A warning where Spot leaves running answers less than the stack file asks for."""
    drain = drain_of(pool)
    if drain.engine >= _asked(pool):
        return None
    return (
        f"{pool.name}: on Spot running answers get {drain.engine} s to end, not the {_asked(pool)} s of "
        f"engine.shutdown_timeout: EC2 gives {SPOT_NOTICE_SECONDS} s in all"
    )


def on_spot(pool: PoolPlan) -> bool:
    return pool.placement is not None and pool.placement.capacity == "spot"


def _asked(pool: PoolPlan) -> int:
    asked = pool.settings.options.shutdown_timeout
    return _DEFAULT_ENGINE_SECONDS if asked is None else asked
