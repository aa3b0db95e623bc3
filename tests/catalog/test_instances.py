"""Instances and prices: every row complete, plausible, and of a source that says when."""

from __future__ import annotations

import datetime
import itertools

import pytest

from freehold.catalog.gpus import load_gpus
from freehold.catalog.instances import Instance, load_instances
from freehold.catalog.prices import load_prices, load_system_nodes

INSTANCES = load_instances()


def is_date(text: str) -> bool:
    return datetime.date(2025, 1, 1) <= datetime.date.fromisoformat(text)


@pytest.mark.parametrize("instance", INSTANCES.values(), ids=lambda i: i.name)
def test_a_row_is_complete_and_plausible(instance: Instance) -> None:
    assert instance.gpu in load_gpus()
    assert instance.gpus in (1, 2, 4, 8)
    assert instance.vcpu >= 4 * instance.gpus or instance.gpus > 1
    assert 3 <= instance.ram_gib / instance.vcpu <= 16
    assert instance.nvme_gb >= 200 and instance.network_gbps >= 2.5
    assert instance.max_pods >= 50
    assert instance.source and is_date(instance.date)
    assert instance.regions and instance.capacity
    assert set(instance.prices) <= {"on_demand", "spot", "capacity_block"}
    assert instance.prices, "no price at all"


@pytest.mark.parametrize("instance", INSTANCES.values(), ids=lambda i: i.name)
def test_every_price_has_a_source_and_a_date(instance: Instance) -> None:
    for capacity, regions in instance.prices.items():
        assert capacity in instance.capacity or capacity == "on_demand"
        for region, price in regions.items():
            assert price.source and is_date(price.date), region
            # Between the cheapest Spot GPU seen and a B200: a misplaced decimal falls out.
            assert 0.2 <= price.usd / instance.gpus <= 25, (capacity, region)


@pytest.mark.parametrize("instance", INSTANCES.values(), ids=lambda i: i.name)
def test_spot_is_below_on_demand(instance: Instance) -> None:
    for region, price in instance.prices.get("spot", {}).items():
        assert instance.spot_lowest[region] <= price.usd
        if on_demand := instance.price("on_demand", region):
            assert price.usd < on_demand.usd


def test_a_larger_size_of_a_family_costs_more() -> None:
    for family in {instance.family for instance in INSTANCES.values()}:
        sizes = [
            (instance.gpus, instance.vcpu, price.usd)
            for instance in INSTANCES.values()
            if instance.family == family and (price := instance.price("on_demand", "us-east-1"))
        ]
        # One GPU with very many CPUs may cost as much as four with few: compare like with like.
        for (gpus, _, usd), (more_gpus, _, more_usd) in itertools.pairwise(sorted(sizes)):
            if gpus == more_gpus:
                assert more_usd > usd, family


@pytest.mark.parametrize(
    ("name", "usd_a_month"),
    # As published for us-east-1 on 2026-07-20, 730 hours.
    [
        ("g6.xlarge", 588),
        ("g6e.xlarge", 1_359),
        ("g6e.12xlarge", 7_660),
        ("g7e.12xlarge", 6_049),
        ("p5.48xlarge", 40_179),
        ("p5en.48xlarge", 46_206),
    ],
)
def test_months_that_people_quote(name: str, usd_a_month: float) -> None:
    price = INSTANCES[name].price("on_demand", "us-east-1")
    assert price and price.usd * 730 == pytest.approx(usd_a_month, abs=1)


def test_p5e_is_sold_by_capacity_block_and_reservation_only() -> None:
    p5e = INSTANCES["p5e.48xlarge"]
    assert p5e.capacity == ("reservation", "capacity_block")
    assert p5e.price("on_demand", "us-east-2") is None
    assert "us-east-1" not in p5e.regions
    block = p5e.price("capacity_block", "us-east-2")
    assert block and block.usd * 730 == pytest.approx(29_054)
    assert p5e.instead == "p5en.48xlarge"
    assert INSTANCES["p5en.48xlarge"].gpu == p5e.gpu


def test_prices_beside_the_gpus_are_complete() -> None:
    for price in [*load_prices().values(), *load_system_nodes().values()]:
        assert price.usd > 0 and price.source and is_date(price.date)
    assert load_prices()["eks_control_plane"].usd * 730 == pytest.approx(73)
    assert min(node.ram_gib for node in load_system_nodes().values()) >= 8
