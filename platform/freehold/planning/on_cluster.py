"""The Plan of a stack on a cluster: models, placement, memory, speed, cost, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from freehold.catalog.models import ModelSpec
from freehold.catalog.release import load_release
from freehold.config.stack import Stack
from freehold.config.target import EksTarget, ExistingCluster

from .assembly import node_group, pool_plans
from .break_even import break_even
from .cost import changes, stack_cost
from .known_models import wanted_pool
from .markets import Markets
from .options import Rules
from .placement import Search, search
from .plan_types import Plan
from .refusals import refusal
from .refused import refused
from .resilience import single_points
from .sizing import Wanted
from .stack_rules import engine_refusals, over_budget, stack_refusals
from .warnings import plan_warnings


def plan_cluster(
    name: str, stack: Stack, models: Mapping[str, ModelSpec], today: str | None
) -> Plan:
    """Raises FreeholdError with every refusal of every pool at once."""
    assert isinstance(stack.target, EksTarget | ExistingCluster)
    markets, rules = Markets(stack.target), Rules(ha=stack.ha, cache=stack.cache)
    refusals = [*stack_refusals(stack), *markets.unknown_gpus]
    wanted: list[Wanted] = []
    for place in range(len(stack.pools)):
        found, problems = wanted_pool(stack, place, models)
        refusals += problems
        wanted += [found] if found else []
    searches = _place(_units(wanted), markets, rules, refusals)
    if refusals:
        raise refused(name, refusals)
    chosen = [found.chosen for found in searches if found.chosen]
    pools = pool_plans(stack, searches, rules)
    cost = stack_cost(
        stack, chosen, () if markets.owned else tuple(changes(stack, chosen, markets))
    )
    if refusals := [*engine_refusals(pools), *over_budget(stack, cost)]:
        raise refused(name, refusals)
    return Plan(
        stack=name,
        target=stack.target,
        pools=pools,
        cache=stack.cache,
        gateway=stack.gateway,
        observability=stack.observability,
        engine_ports_from=stack.engine_ports_from,
        release=load_release(),
        tier=stack.tier,
        ha=stack.ha,
        hours=stack.hours,
        budget=stack.budget,
        capacity=stack.capacity,
        node_groups=tuple(node_group(stack, option) for option in chosen),
        cost=cost,
        break_even=tuple(break_even(chosen, cost)),
        single_points_of_failure=tuple(single_points(stack, chosen)),
        warnings=tuple(plan_warnings(stack, chosen, today)),
    )


def _units(wanted: Sequence[Wanted]) -> list[tuple[Wanted, ...]]:
    """Pools that are placed together, in the order of the file."""
    units: dict[str, list[Wanted]] = {}
    for one in wanted:
        group = one.pool.gpu_group
        units.setdefault(f"group {group}" if group else f"pool {one.pool.name}", []).append(one)
    return [tuple(unit) for unit in units.values()]


def _place(
    units: Sequence[tuple[Wanted, ...]], markets: Markets, rules: Rules, refusals: list[str]
) -> list[Search]:
    """Each unit's search; what has no option adds its line to the refusals."""
    searches: list[Search] = []
    for unit in units:
        capacity = unit[0].pool.capacity
        assert capacity, "wanted pools say how they are bought"
        market = markets(capacity.kind)
        found = search(unit, market, rules)
        searches.append(found)
        if found.chosen:
            markets.take(found.chosen)
        else:
            names = ", ".join(one.pool.name for one in unit)
            refusals.append(f"{names}: {refusal(found, rules, markets)}")
    return searches
