"""The markets that a stack buys in: EC2 by way of buying, or the machines of its own cluster."""

from __future__ import annotations

import dataclasses
from functools import cache

from freehold.config.capacity import CapacityKind
from freehold.config.target import EksTarget, ExistingCluster

from .market import Market, ec2_market, owned_market
from .options import Option


class Markets:
    """Called with a way of buying it gives that market; machines taken from a cluster are gone."""

    def __init__(self, target: EksTarget | ExistingCluster) -> None:
        self._target = target
        self._ec2 = cache(self._in_ec2)
        self._owned: Market | None = None
        self.unknown_gpus: list[str] = []
        if isinstance(target, ExistingCluster):
            self._owned, self.unknown_gpus = owned_market(target)

    @property
    def owned(self) -> bool:
        return self._owned is not None

    def __call__(self, capacity: CapacityKind) -> Market:
        return self._owned or self._ec2(capacity)

    def _in_ec2(self, capacity: CapacityKind) -> Market:
        assert isinstance(self._target, EksTarget)
        return ec2_market(self._target, capacity)

    def take(self, option: Option) -> None:
        """What an option uses of a cluster's machines is not there for the next one."""
        if self._owned is None:
            return
        taken = option.offer.instance.name
        offers = tuple(
            dataclasses.replace(
                offer,
                instance=dataclasses.replace(
                    offer.instance, count=(offer.instance.count or 0) - option.nodes
                ),
            )
            if offer.instance.name == taken
            else offer
            for offer in self._owned.offers
        )
        self._owned = dataclasses.replace(self._owned, offers=offers)
