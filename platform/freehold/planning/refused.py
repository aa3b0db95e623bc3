"""The one form in which a plan is refused."""

from __future__ import annotations

from collections.abc import Sequence

from freehold.config.errors import FreeholdError


def refused(name: str, refusals: Sequence[str]) -> FreeholdError:
    """Every reason at once, a line each."""
    count = "1 thing" if len(refusals) == 1 else f"{len(refusals)} things"
    listed = "\n".join(f"  {line}" for line in refusals)
    return FreeholdError(f"stack {name} is refused: {count} cannot be\n{listed}")
