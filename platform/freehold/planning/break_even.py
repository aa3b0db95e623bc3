"""From how many tokens a month on the stack costs less than a hosted API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from freehold.catalog.hosted import load_hosted

from .cost import Cost
from .options import Option, Placed


@dataclass(frozen=True)
class BreakEven:
    """Tokens are prompt and answer together, in the demand's proportions; money is US dollars."""

    provider: str
    usd_per_month_at_planned_load: float
    """What the provider would ask for the tokens that the planned load makes in a month."""
    tokens_per_month: float
    """At which the provider costs what the stack costs, all items."""
    planned_tokens_per_month: float
    date: str
    """Of the oldest price in it."""


def break_even(chosen: Sequence[Option], cost: Cost) -> Iterator[BreakEven]:
    """Against each provider that serves every model of the stack that generates."""
    pools = [placed for option in chosen for placed in option.pools if placed.forecast]
    if not pools or not cost.usd_per_month:
        return
    seconds = 3600 * cost.hours_per_month
    tokens = sum(p.forecast.total_token_throughput for p in pools if p.forecast) * seconds
    for provider, prices in load_hosted().items():
        if any(placed.wanted.model.name not in prices for placed in pools):
            continue
        usd = sum(_usd_per_second(placed, provider) for placed in pools) * seconds
        if usd > 0:
            yield BreakEven(
                provider=provider,
                usd_per_month_at_planned_load=round(usd, 2),
                tokens_per_month=tokens * cost.usd_per_month / usd,
                planned_tokens_per_month=tokens,
                date=min(prices[placed.wanted.model.name].date for placed in pools),
            )


def _usd_per_second(placed: Placed, provider: str) -> float:
    price, demand = load_hosted()[provider][placed.wanted.model.name], placed.wanted.pool.demand
    assert demand and placed.forecast
    a_request = demand.input_tokens * price.input + demand.output_tokens * price.output
    return placed.forecast.request_throughput * a_request / 1e6
