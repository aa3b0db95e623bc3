"""When `--shape step` has seen enough: the level at which more load brings no more output.

A level is saturated when less than a quarter of what the load grew by came out as tokens: twice the
requests in flight, and not a quarter more tokens a second (half of a minute with some dozen answers
scatters by a tenth: the simulated small stack, 2026-11-24). Of an open loop half is asked for: what is
not answered there piles up. A level at which a tenth of the requests fail is saturated as well.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOSED_GAIN, OPEN_GAIN = 0.25, 0.5
FAILED = 0.1
# Fewer requests say nothing of a level: chance of arrivals alone moves an open loop's output by more.
LEAST = 20


@dataclass(frozen=True)
class Count:
    """What the generator has seen so far, all processes together."""

    outputs: int = 0
    """Output events, also of requests still in flight."""
    ended: int = 0
    """Requests."""
    failed: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.outputs + other.outputs, self.ended + other.ended, self.failed + other.failed
        )

    def __sub__(self, other: Count) -> Count:
        return Count(
            self.outputs - other.outputs, self.ended - other.ended, self.failed - other.failed
        )


@dataclass(frozen=True)
class Level:
    """One stage as it was: `load` asked for (users, or requests a second), and what came of it."""

    name: str
    load: float
    seen: Count
    seconds: float

    @property
    def rate(self) -> float:
        """Output events a second."""
        return self.seen.outputs / self.seconds


def saturated(before: Level | None, now: Level, open_loop: bool) -> str | None:
    """Why a level is beyond what the stack can do; None when it is not, or too few requests say."""
    if now.seen.ended and now.seen.failed >= FAILED * now.seen.ended:
        return f"{now.seen.failed} of {now.seen.ended} requests failed"
    if before is None or not before.rate or now.load <= before.load:
        return None
    if open_loop and min(before.seen.ended, now.seen.ended) < LEAST:
        return None
    more, gained = now.load / before.load - 1, now.rate / before.rate - 1
    if gained >= (OPEN_GAIN if open_loop else CLOSED_GAIN) * more:
        return None
    return f"{more:.0%} more load than at {before.name} brought {gained:+.0%} output"
