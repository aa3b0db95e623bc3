"""How the load changes over a run: stages one after another, and the usual shapes made of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from freehold.config.base import Model

Shape = Literal["steady", "step", "ramp", "spike", "soak"]
SHAPES: tuple[Shape, ...] = ("steady", "step", "ramp", "spike", "soak")


class Stage(Model):
    """A time of one level of load. In a closed loop the level is `concurrency`, else `rate`."""

    name: str
    seconds: Annotated[float, Field(gt=0)] | None = None
    """None: until the run's number of requests is sent."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    """Requests a second."""
    measured: bool = True
    """False: warm-up; the load is there, but it is in no figure."""

    @property
    def level(self) -> float:
        return float(self.concurrency or self.rate or 0.0)


def stages_of(
    shape: Shape, level: float, open_loop: bool, seconds: float | None, warmup: float
) -> tuple[Stage, ...]:
    """The stages of a shape that reaches `level` (users, or requests a second).

    `seconds`: all measured stages together; None: one stage, until the requests are sent.
    Warm-up comes on top, at the first measured level, and makes caches and kernels warm.
    """
    measured = [
        _stage(name, part, share * seconds if seconds is not None else None, open_loop)
        for name, part, share in _parts(shape, level, open_loop)
    ]
    if warmup <= 0:
        return tuple(measured)
    first = measured[0]
    lead = Stage(
        name="warm-up",
        seconds=warmup,
        concurrency=first.concurrency,
        rate=first.rate,
        measured=False,
    )
    return (lead, *measured)


def _stage(name: str, level: float, seconds: float | None, open_loop: bool) -> Stage:
    if open_loop:
        return Stage(name=name, seconds=seconds, rate=level)
    return Stage(name=name, seconds=seconds, concurrency=round(level))


def _parts(shape: Shape, level: float, open_loop: bool) -> list[tuple[str, float, float]]:
    """(name, level, share of the time) of each stage."""
    floor = 0.0 if open_loop else 1.0
    if shape in ("steady", "soak"):
        return [(shape, level, 1.0)]
    if shape == "spike":
        calm = max(level / 4, floor)
        return [("before", calm, 0.4), ("spike", level, 0.2), ("after", calm, 0.4)]
    if shape == "ramp":
        levels = sorted({max(level * part / 8, floor) for part in range(1, 9)})
    else:
        levels = [level]
        while levels[0] / 2 >= max(floor, level / 256):
            levels.insert(0, levels[0] / 2)
    if not open_loop:
        levels = sorted({float(round(each)) for each in levels})
    return [(f"{each:g}", each, 1 / len(levels)) for each in levels]
