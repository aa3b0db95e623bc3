"""Cost by item: what the GPUs take, what comes on top, and what buying differently would change.

A month has 730 hours. Nothing here is an invoice: traffic by the gigabyte, support plans and taxes
are left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from freehold.catalog.prices import load_prices, load_system_nodes
from freehold.config.capacity import CapacityKind
from freehold.config.stack import Stack
from freehold.config.target import EksTarget, NewVpc

from .market import Market, Offer
from .options import Option

HOURS_A_MONTH = 730.0
_HOURS_A_WEEK = 168.0
# What `hours` would be compared with when a stack runs always: ten hours on weekdays.
_OFFICE_HOURS_A_WEEK = 50.0

# The engine's image is about 10 GB packed and 20 unpacked (facts of the vLLM 0.2x images); EKS's own
# 20 GB root volume is too small for it.
GPU_ROOT_GIB, SYSTEM_ROOT_GIB = 200, 50


@dataclass(frozen=True)
class CostItem:
    """US dollars. `usd_per_hour` is that of an hour in which it runs."""

    name: str
    usd_per_hour: float
    usd_per_month: float
    gpu: bool = False
    tokens: bool = False
    """Paid to somebody else by the token."""


@dataclass(frozen=True)
class Change:
    """What the month would cost if the GPUs were bought or used differently."""

    name: str
    usd_per_month: float
    note: str


@dataclass(frozen=True)
class Cost:
    """The sum of its items; `gpu_*` is that of the GPU nodes alone."""

    items: tuple[CostItem, ...]
    output_tokens_per_second: float
    hours_per_month: float
    """Hours a month in which the GPUs run."""
    changes: tuple[Change, ...] = ()

    @property
    def usd_per_hour(self) -> float:
        return sum(item.usd_per_hour for item in self.items)

    @property
    def usd_per_month(self) -> float:
        return sum(item.usd_per_month for item in self.items)

    @property
    def gpu_usd_per_hour(self) -> float:
        return sum(item.usd_per_hour for item in self.items if item.gpu)

    @property
    def gpu_usd_per_month(self) -> float:
        return sum(item.usd_per_month for item in self.items if item.gpu)

    @property
    def token_usd_per_month(self) -> float:
        return sum(item.usd_per_month for item in self.items if item.tokens)

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """At the planned load for every hour that the GPUs run; all items."""
        return self._per_million(self.usd_per_month)

    @property
    def gpu_usd_per_million_output_tokens(self) -> float | None:
        return self._per_million(self.gpu_usd_per_month)

    def _per_million(self, usd_per_month: float) -> float | None:
        tokens = self.output_tokens_per_second * 3600 * self.hours_per_month
        return usd_per_month / tokens * 1e6 if tokens else None


def stack_cost(stack: Stack, chosen: Sequence[Option], changes: Sequence[Change] = ()) -> Cost:
    """Every item of a stack whose units are placed."""
    hours = gpu_hours(stack)
    items = [*_gpu_items(chosen, hours)]
    if isinstance(stack.target, EksTarget):
        items += cluster_items(stack, stack.target, chosen)
    return Cost(
        items=tuple(items),
        output_tokens_per_second=sum(option.output_throughput for option in chosen),
        hours_per_month=hours,
        changes=tuple(changes),
    )


def gpu_hours(stack: Stack) -> float:
    """Hours a month in which GPU nodes run."""
    if stack.hours is None:
        return HOURS_A_MONTH
    return HOURS_A_MONTH * stack.hours.a_week / _HOURS_A_WEEK


def _gpu_items(chosen: Sequence[Option], hours: float) -> Iterator[CostItem]:
    for option in chosen:
        pools = ", ".join(placed.wanted.pool.name for placed in option.pools)
        name = f"GPU nodes for {pools}: {option.nodes} x {option.offer.instance.name}"
        # A block and a reservation are paid for whether they run or not.
        paid = hours if option_capacity(option) in ("on_demand", "spot") else HOURS_A_MONTH
        yield _item(name, option.usd_per_hour, paid, gpu=True)


def option_capacity(option: Option) -> str:
    """How the pools of an option are bought."""
    capacity = option.pools[0].wanted.pool.capacity
    return capacity.kind if capacity else "on_demand"


def cluster_items(stack: Stack, target: EksTarget, chosen: Sequence[Option]) -> Iterator[CostItem]:
    """What an EKS cluster costs beside its GPU nodes."""
    prices = load_prices()
    node = load_system_nodes()[target.system.instance_type]
    yield _item(
        f"system nodes: {target.system.nodes} x {node.name}", target.system.nodes * node.usd
    )
    yield _item("EKS control plane", prices["eks_control_plane"].usd)
    if isinstance(target.vpc, NewVpc):
        gateways = len(target.zones) if target.vpc.nat == "per_zone" else 1
        yield _item(f"NAT gateways: {gateways}", gateways * prices["nat_gateway"].usd)
        if endpoints := len(target.vpc.interface_endpoints):
            usd = endpoints * len(target.zones) * prices["interface_endpoint_zone"].usd
            yield _item(f"interface endpoints: {endpoints} x {len(target.zones)} zones", usd)
    yield _item("network load balancer", prices["network_load_balancer"].usd)
    yield from _storage(stack, target, chosen)


def _storage(stack: Stack, target: EksTarget, chosen: Sequence[Option]) -> Iterator[CostItem]:
    prices = load_prices()
    disk = sum(option.nodes for option in chosen) * GPU_ROOT_GIB
    disk += target.system.nodes * SYSTEM_ROOT_GIB
    prometheus = stack.observability.prometheus
    disk += prometheus.storage_gib if prometheus else 0
    usd = disk * prices["ebs_gp3_gib_month"].usd / HOURS_A_MONTH
    yield _item(f"disks: {disk} GiB gp3", usd)
    held = sum(
        placed.wanted.model.weights(placed.fit.engine.weights).total / 2**30
        for option in chosen
        for placed in option.pools
    )
    if held:
        usd = held * prices["s3_gib_month"].usd / HOURS_A_MONTH
        yield _item(f"model store: {held:.0f} GiB in S3", usd)


def _item(name: str, usd: float, hours: float = HOURS_A_MONTH, *, gpu: bool = False) -> CostItem:
    return CostItem(name, round(usd, 5), round(usd * hours, 2), gpu)


def changes(
    stack: Stack, chosen: Sequence[Option], markets: Callable[[CapacityKind], Market]
) -> Iterator[Change]:
    """What other ways of buying, and office hours, would make of the month."""
    now = stack_cost(stack, chosen)
    rest = now.usd_per_month - now.gpu_usd_per_month
    dearest = max(chosen, key=lambda option: option.usd_per_hour)
    for kind in _WAYS_TO_BUY:
        market = markets(kind)
        if kind == option_capacity(dearest) or _offer(dearest, market) is None:
            continue
        hours = HOURS_A_MONTH if kind == "capacity_block" else now.hours_per_month
        gpus = sum(_rebought(option, market, hours) for option in chosen)
        yield Change(_WAYS_TO_BUY[kind], round(rest + gpus, 2), _note(chosen, market))
    flexible = all(option_capacity(option) in ("on_demand", "spot") for option in chosen)
    if stack.hours is None and flexible:
        usd = rest + now.gpu_usd_per_month * _OFFICE_HOURS_A_WEEK / _HOURS_A_WEEK
        yield Change("10 hours on weekdays", round(usd, 2), "GPUs scaled to zero outside (hours:)")


_WAYS_TO_BUY: dict[CapacityKind, str] = {
    "on_demand": "On-Demand",
    "spot": "Spot",
    "capacity_block": "Capacity Block",
}
_CATCHES: dict[CapacityKind, str] = {
    "on_demand": "by the second, where there is any",
    "spot": "taken away with two minutes' notice",
    "reservation": "billed whether used or not",
    "capacity_block": "paid in advance, one zone, at most 182 days",
}


def _offer(option: Option, market: Market) -> Offer | None:
    """The same machine in another market, or the one that the catalog names in its stead."""
    offers = {offer.instance.name: offer for offer in market.offers if not offer.estimated}
    instance = option.offer.instance
    return offers.get(instance.name) or offers.get(instance.instead or "")


def _rebought(option: Option, market: Market, hours: float) -> float:
    """A month of an option in another market; at its own price where it is not sold there."""
    offer = _offer(option, market)
    return option.nodes * (offer or option.offer).usd_per_hour * hours


def _note(chosen: Sequence[Option], market: Market) -> str:
    offers = {
        option.offer.instance.name: offer for option in chosen if (offer := _offer(option, market))
    }
    others = [o.instance.name for name, o in offers.items() if o.instance.name != name]
    note = _CATCHES[market.capacity]
    if others:
        note += f"; {', '.join(others)} instead"
    if market.capacity == "spot":
        floor = any(offer.price.highest_unknown for offer in offers.values())
        note += (
            "; at the lowest price seen, expect more" if floor else "; at the highest price seen"
        )
    return note
