"""The Plan of a stack whose models Bedrock serves: is the model there, and what do its tokens cost?

Nothing is placed and nothing is predicted: how fast Bedrock answers is measured, not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from freehold.catalog.bedrock import BedrockModel, load_bedrock_models
from freehold.catalog.hosted import load_hosted
from freehold.catalog.models import load_models
from freehold.catalog.release import load_release
from freehold.config.bedrock import BedrockTarget
from freehold.config.demand import Demand
from freehold.config.engine import EngineOptions
from freehold.config.errors import nearest
from freehold.config.stack import ModelPool, Observability, Stack
from freehold.engine.settings import EngineSettings

from .cost import Cost, CostItem, cluster_items, gpu_hours
from .market import days_old
from .plan_types import HostedModel, Plan, PoolPlan
from .refused import refused
from .stack_rules import over_budget, stack_refusals
from .warnings import STALE_DAYS

PROVIDER = "Bedrock"


@dataclass(frozen=True)
class _Wanted:
    pool: ModelPool
    demand: Demand
    found: BedrockModel
    hosted: HostedModel


def plan_bedrock(name: str, stack: Stack, today: str | None) -> Plan:
    """Raises FreeholdError with every refusal of every pool at once."""
    target = stack.target
    assert isinstance(target, BedrockTarget)
    refusals = stack_refusals(stack)
    wanted: list[_Wanted] = []
    for place, pool in enumerate(stack.pools):
        why = list(_problems(pool, target.region, f"pools[{place}] ({pool.name})"))
        refusals += why
        wanted += [] if why else [_wanted(pool, target.region)]
    if refusals:
        raise refused(name, refusals)
    cost = _cost(stack, target, wanted)
    if refusals := over_budget(stack, cost):
        raise refused(name, refusals)
    return Plan(
        stack=name,
        target=target,
        pools=tuple(_pool(one) for one in wanted),
        cache=None,
        gateway=stack.gateway,
        observability=Observability(prometheus=None),
        engine_ports_from=stack.engine_ports_from,
        release=load_release(),
        tier=stack.tier,
        hours=stack.hours,
        budget=stack.budget,
        cost=cost,
        single_points_of_failure=tuple(_single_points(target)),
        warnings=tuple(_warnings(stack, target, wanted, today)),
    )


def _problems(pool: ModelPool, region: str, path: str) -> Iterator[str]:
    known = load_bedrock_models()
    found = known.get(pool.model)
    if found is None:
        here = [id_ for id_, one in known.items() if region in one.regions]
        same = [id_ for id_, one in known.items() if one.model == pool.model]
        hint = f' (did you mean "{same[0]}"?)' if same else nearest(pool.model, known)
        yield (
            f'{path}.model: the catalog has no Bedrock model "{pool.model}"{hint}; in {region} it has '
            f"{', '.join(here) or 'none'}; another one: platform/freehold/catalog/bedrock.yaml"
        )
        return
    if region not in found.regions:
        yield (
            f"{path}.model: {found.id} is not offered in {region}; it is in {', '.join(found.regions)}"
        )
    longest, demand = _context(found), pool.demand
    if longest and demand and demand.input_tokens + demand.output_tokens > longest:
        asked = demand.input_tokens + demand.output_tokens
        yield f"{path}.demand: {asked:,} tokens a request, {found.id} takes {longest:,}"


def _context(found: BedrockModel) -> int | None:
    return load_models()[found.model].max_context if found.model else None


def _wanted(pool: ModelPool, region: str) -> _Wanted:
    found, demand = load_bedrock_models()[pool.model], pool.demand
    assert demand, "config requires it"
    hosted = HostedModel(
        provider=PROVIDER,
        id=found.id,
        region=region,
        max_context=_context(found),
        requests_per_minute=requests_per_minute(demand),
        price=load_hosted()[PROVIDER].get(found.model or ""),
    )
    return _Wanted(pool, demand, found, hosted)


def requests_per_minute(demand: Demand) -> float:
    """Of a demand that is said as a rate; of requests and tokens the larger one counts."""
    a_request = demand.input_tokens + demand.output_tokens
    return max(demand.requests_per_minute or 0.0, (demand.tokens_per_minute or 0.0) / a_request)


def _pool(wanted: _Wanted) -> PoolPlan:
    pool = wanted.pool
    return PoolPlan(
        name=pool.name,
        role=pool.role,
        policy=pool.policy,
        replicas=0,
        aliases=tuple(pool.aliases),
        settings=EngineSettings(pool.model, pool.name, pool.role, EngineOptions()),
        model=wanted.found.model,
        rollout=pool.rollout,
        hosted=wanted.hosted,
        demand=pool.demand,
        objectives=pool.objectives,
        not_predicted="how fast Bedrock answers is not known: measure it with `freehold load`",
    )


def _cost(stack: Stack, target: BedrockTarget, wanted: Sequence[_Wanted]) -> Cost:
    """Of pools without a known price nothing is in it, neither money nor tokens."""
    hours = gpu_hours(stack)
    priced = [one for one in wanted if one.hosted.price]
    items = [_tokens(one, hours) for one in priced]
    if target.cluster:
        items += cluster_items(stack, target.cluster, ())
    out = sum(one.hosted.requests_per_minute / 60 * one.demand.output_tokens for one in priced)
    return Cost(tuple(items), output_tokens_per_second=out, hours_per_month=hours)


def _tokens(wanted: _Wanted, hours: float) -> CostItem:
    """At the peak for every hour of `hours`: the most that the demand can cost."""
    price, demand = wanted.hosted.price, wanted.demand
    assert price
    a_request = (demand.input_tokens * price.input + demand.output_tokens * price.output) / 1e6
    usd = wanted.hosted.requests_per_minute * 60 * a_request
    name = f"tokens of {wanted.pool.name}: {wanted.hosted.id}, prices of {price.date}"
    return CostItem(name, round(usd, 5), round(usd * hours, 2), tokens=True)


def _single_points(target: BedrockTarget) -> Iterator[str]:
    if target.cluster is None:
        yield "the gateway: one process on this machine; while it is away, no answers"
    yield f"Bedrock in {target.region}: no other region answers in its place"


def _warnings(
    stack: Stack, target: BedrockTarget, wanted: Sequence[_Wanted], today: str | None
) -> Iterator[str]:
    for one in wanted:
        name, price = one.pool.name, one.hosted.price
        if price is None:
            yield (
                f"{name}: no price of {one.hosted.id} is known: its tokens are not in the cost, and no "
                "budget refuses them; aws.amazon.com/bedrock/pricing"
            )
        elif today and days_old(price.date, today) > STALE_DAYS:
            yield (
                f"{name}: its prices are of {price.date}, older than {STALE_DAYS} days: refresh "
                "platform/freehold/catalog/hosted.yaml as its first lines say"
            )
        if one.found.unverified:
            yield f"{name}: no source was found for {one.hosted.id}'s {', '.join(one.found.unverified)}"
    if not target.region.startswith("us-"):
        yield f"prices are the list's of US regions: {target.region} may be dearer"
    if stack.budget is None:
        yield "no budget: nothing refuses a dearer plan, and nobody hears of a dear month"
    elif target.alarm_email is None:
        yield "budget: nobody hears that the month's tokens near it: set target.alarm_email"
