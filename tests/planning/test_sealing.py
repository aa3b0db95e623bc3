"""What the plan says of tenant-sealed caches."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.planning.plan import Plan, make_plan
from freehold.planning.sealing import sealing_cost, sealing_lines
from freehold.planning.to_json import plan_to_json

from .stacks import eks_stack

KEYS = [{"tenant": name} for name in ("a", "b", "c")]
DEMAND = {
    "concurrency": 4,
    "input_tokens": 4000,
    "output_tokens": 100,
    "prefix_hit_rate": 0.5,
    "shared_prefix_tokens": 1000,
}


def plan(keys: list[dict[str, Any]] = KEYS, demand: Any = DEMAND, **gateway: Any) -> Plan:
    return make_plan("test", eks_stack(demand=demand, gateway={"keys": keys, **gateway}))


def test_each_tenant_beyond_the_first_costs_a_copy_of_what_all_share() -> None:
    found = plan()
    cost = sealing_cost(found, found.pools[0])
    assert cost and cost.caches == 3
    sizing = found.pools[0].sizing
    assert sizing and sizing.kv_cache_tokens
    a_replica_s = sizing.kv_cache_tokens / found.pools[0].replicas
    assert cost.kv_cache_share == pytest.approx(2 * 1000 / a_replica_s)
    assert cost.hit_rate_lost == pytest.approx(0.5 * cost.kv_cache_share)


def test_a_group_keeps_one_copy() -> None:
    friends = [*KEYS[:1], *({**key, "cache_group": "friends"} for key in KEYS[1:])]
    found = plan(friends)
    cost = sealing_cost(found, found.pools[0])
    assert cost and cost.caches == 2
    assert "2 prompt caches are kept apart" in next(sealing_lines(found))


def test_a_group_named_like_a_tenant_is_not_that_tenant() -> None:
    found = plan([{"tenant": "a"}, {"tenant": "b", "cache_group": "a"}])
    assert found.gateway.caches == 2


@pytest.mark.parametrize("unsealed", [{"keys": KEYS[:1]}, {"sealed": False}])
def test_what_is_not_sealed_costs_nothing(unsealed: dict[str, Any]) -> None:
    found = plan(**unsealed)
    assert not list(sealing_lines(found))
    assert "sealing" not in plan_to_json(found)["pools"][0]


def test_without_a_shared_beginning_the_plan_asks_for_it() -> None:
    demand = {key: value for key, value in DEMAND.items() if key != "shared_prefix_tokens"}
    assert "demand.shared_prefix_tokens" in next(sealing_lines(plan(demand=demand)))
