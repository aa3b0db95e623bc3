"""How GPUs are bought."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field

from .base import Model

ReservationId = Annotated[str, Field(pattern=r"^cr-[0-9a-f]{8,17}$")]


class OnDemand(Model):
    """By the second, as long as you like, where there is any."""

    kind: Literal["on_demand"] = "on_demand"


class Spot(Model):
    """Cheaper; taken away with two minutes' notice, less than a model takes to load."""

    kind: Literal["spot"]


class Reservation(Model):
    """An On-Demand Capacity Reservation: billed as on demand, used or not."""

    kind: Literal["reservation"]
    id: ReservationId
    zone: str


class CapacityBlock(Model):
    """P instances for a fixed time in one zone, paid in full when bought.

    A plan needs no id: it tells what to buy. Nothing can be created before `id`, `zone` and `ends`
    are there.
    """

    kind: Literal["capacity_block"]
    id: ReservationId | None = None
    zone: str | None = None
    ends: datetime.datetime | None = Field(
        default=None, description="EC2 ends the instances 30 minutes before this."
    )

    @property
    def bought(self) -> bool:
        return None not in (self.id, self.zone, self.ends)


Capacity = Annotated[
    OnDemand | Spot | Reservation | CapacityBlock,
    Field(discriminator="kind"),
]
CapacityKind = Literal["on_demand", "spot", "reservation", "capacity_block", "owned"]
"""`owned`: machines of a cluster that exists; no stack file says it."""
