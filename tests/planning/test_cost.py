"""Cost: items that add up, hours that count, changes that are what they say."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.config import FreeholdError
from freehold.planning.cost import Cost
from freehold.planning.plan import Plan, make_plan

from .stacks import eks_stack

BLOCK = {"kind": "capacity_block"}


def plan(*arguments: Any, today: str | None = None, **keywords: Any) -> Plan:
    return make_plan("test", eks_stack(*arguments, **keywords), today=today)


def cost(*arguments: Any, **keywords: Any) -> Cost:
    found = plan(*arguments, **keywords).cost
    assert found
    return found


def test_a_cluster_s_items_are_all_there() -> None:
    names = " | ".join(item.name for item in cost().items)
    for words in (
        "GPU nodes for chat",
        "system nodes",
        "EKS control plane",
        "NAT gateways: 1",
        "network load balancer",
        "disks",
        "model store",
    ):
        assert words in names
    assert "interface endpoints" not in names


def test_nat_and_endpoints_follow_the_vpc() -> None:
    vpc = {"kind": "new", "nat": "per_zone", "interface_endpoints": ["sts", "ecr.api"]}
    items = {item.name: item for item in cost(target={"vpc": vpc}).items}
    assert items["NAT gateways: 2"].usd_per_hour == pytest.approx(2 * 0.045)
    assert items["interface endpoints: 2 x 2 zones"].usd_per_hour == pytest.approx(4 * 0.01)
    existing = {
        "kind": "existing",
        "id": "vpc-0a1b2c3d",
        "private_subnets": ["subnet-0a1b2c3d", "subnet-0a1b2c3e"],
    }
    assert not any("NAT" in item.name for item in cost(target={"vpc": existing}).items)


def test_the_gpu_line_is_the_published_price() -> None:
    pin = {"instance_type": "g6e.xlarge", "replicas": 1}
    found = cost("llama-3.1-8b", pool={"placement": pin})
    assert found.gpu_usd_per_hour == 1.861
    assert found.gpu_usd_per_month == pytest.approx(1_359, abs=1)
    assert found.usd_per_month > found.gpu_usd_per_month


def test_hours_scale_gpus_and_nothing_else() -> None:
    hours = {"days": ["mon", "tue", "wed", "thu", "fri"], "start": "08:00", "stop": "18:00"}
    always, office = cost(), cost(hours=hours)
    assert office.usd_per_hour == always.usd_per_hour
    assert office.gpu_usd_per_month == pytest.approx(always.gpu_usd_per_month * 50 / 168, abs=0.01)
    rest = [c.usd_per_month - c.gpu_usd_per_month for c in (always, office)]
    assert rest[0] == pytest.approx(rest[1])
    told = next(c for c in always.changes if c.name == "10 hours on weekdays")
    assert told.usd_per_month == pytest.approx(office.usd_per_month, abs=0.02)


def test_a_capacity_block_is_paid_for_whether_it_runs_or_not() -> None:
    hours = {"days": ["mon"], "start": "08:00", "stop": "18:00"}
    always = cost("deepseek-r1", region="us-east-2", capacity=BLOCK)
    monday = cost("deepseek-r1", region="us-east-2", capacity=BLOCK, hours=hours)
    assert always.gpu_usd_per_month == monday.gpu_usd_per_month == pytest.approx(29_054)


def test_a_million_tokens_cost_the_month_over_its_tokens() -> None:
    planned = plan("llama-3.1-8b")
    forecast, found = planned.pools[0].predicted, planned.cost
    assert forecast and found and found.usd_per_million_output_tokens
    tokens = forecast.output_throughput * 3600 * 730
    assert found.usd_per_million_output_tokens == pytest.approx(found.usd_per_month / tokens * 1e6)


def test_spot_is_what_a_spot_stack_costs() -> None:
    pin = {"placement": {"instance_type": "g6e.xlarge", "replicas": 1}}
    told = next(c for c in cost("llama-3.1-8b", pool=pin).changes if c.name == "Spot")
    spot = cost("llama-3.1-8b", pool=pin, capacity={"kind": "spot"})
    assert told.usd_per_month == pytest.approx(spot.usd_per_month, abs=0.02)
    assert "highest price seen" in told.note


def test_p5e_s_changes_name_p5en() -> None:
    changes = {c.name: c for c in cost("deepseek-r1", region="us-east-2", capacity=BLOCK).changes}
    assert "p5en.48xlarge instead" in changes["On-Demand"].note
    assert changes["On-Demand"].usd_per_month > 46_206


def test_a_budget_refuses_and_says_what_would_be_within_it() -> None:
    with pytest.raises(FreeholdError) as caught:
        plan("llama-3.1-8b", budget={"usd_per_month": 700})
    message = str(caught.value)
    assert "budget.usd_per_month: 700, the plan costs " in message
    assert "within it: " in message
    assert plan("llama-3.1-8b", budget={"usd_per_month": 5000})


def test_prices_grow_old_only_for_who_says_what_day_it_is() -> None:
    def stale(today: str | None) -> list[str]:
        return [w for w in plan(today=today).warnings if "older than 90 days" in w]

    assert stale(None) == []
    # Instances are of 2026-07-20: 90 days are over on 2026-10-18.
    assert not any("instances.yaml" in line for line in stale("2026-10-18"))
    assert any("g6" in line and "instances.yaml" in line for line in stale("2026-10-19"))


def test_a_region_without_known_prices_is_told() -> None:
    found = plan(region="eu-west-1").warnings
    assert any("the price of" in line and "is not known" in line for line in found)
    assert any("priced as in us-east-1" in line for line in found)
    assert not any("not known" in line for line in plan(region="eu-central-1").warnings)


def test_spot_with_one_replica_is_told() -> None:
    found = plan("llama-3.1-8b", capacity={"kind": "spot"}).warnings
    assert any("two minutes' notice" in line for line in found)
