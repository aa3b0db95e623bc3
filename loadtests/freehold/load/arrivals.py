"""When requests are wanted to start: the open-loop arrival processes, and traces.

An open loop sends at its times whether or not earlier requests were answered, as independent clients
do; a closed loop (users.py) waits for each answer. Nothing is rescaled: n arrivals of a Poisson
process at rate r take n / r seconds on average, not exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from freehold.config import FreeholdError

from .stages import Stage

Process = Literal["constant", "poisson", "gamma"]


@dataclass(frozen=True)
class Arrival:
    """`at`: seconds after the start. Tokens are None where the traffic decides them."""

    at: float
    stage: str
    measured: bool = True
    input_tokens: int | None = None
    output_tokens: int | None = None


def arrivals(
    stages: Sequence[Stage],
    process: Process,
    burstiness: float = 1.0,
    seed: int = 0,
    requests: int | None = None,
) -> Iterator[Arrival]:
    """Arrivals of one stage after another, each at its own rate.

    `requests`: how many a stage without a length sends. `burstiness` is the gamma process's shape, as
    vLLM names it: below 1 comes in bursts, 1 is Poisson, larger is smoother.
    """
    rng = np.random.default_rng(seed)
    begin = 0.0
    for stage in stages:
        rate = stage.rate
        if rate is None:
            raise FreeholdError(f"stage {stage.name} has no rate: an open loop needs one")
        at, sent = begin, 0
        while True:
            at += _gap(rng, process, rate, burstiness)
            if stage.seconds is not None and at >= begin + stage.seconds:
                break
            if stage.seconds is None and sent == (requests or 0):
                break
            sent += 1
            yield Arrival(at, stage.name, stage.measured)
        begin = at if stage.seconds is None else begin + stage.seconds


def _gap(rng: np.random.Generator, process: Process, rate: float, burstiness: float) -> float:
    if process == "constant":
        return 1.0 / rate
    shape = 1.0 if process == "poisson" else burstiness
    return float(rng.gamma(shape, 1.0 / (rate * shape)))


def read_trace(path: Path, speed: float = 1.0) -> list[Arrival]:
    """A trace: one JSON object a line with `timestamp` (seconds; milliseconds as `timestamp_ms`) and,
    if known, `input_tokens` (`input_length`) and `output_tokens` (`output_length`).

    The first arrival becomes 0; `speed` 2 replays in half the time.
    """
    found: list[Arrival] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FreeholdError(f"cannot read the trace {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.append(_traced(line, f"{path}, line {number}"))
    if not found:
        raise FreeholdError(f"the trace {path} has no arrivals")
    found.sort(key=lambda arrival: arrival.at)
    origin = found[0].at
    return [
        Arrival((a.at - origin) / speed, "trace", True, a.input_tokens, a.output_tokens)
        for a in found
    ]


def _traced(line: str, where: str) -> Arrival:
    try:
        entry = json.loads(line)
        at = entry["timestamp"] if "timestamp" in entry else entry["timestamp_ms"] / 1000
        return Arrival(
            at=float(at),
            stage="trace",
            input_tokens=_tokens(entry, "input"),
            output_tokens=_tokens(entry, "output"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FreeholdError(
            f"{where}: needs an object with `timestamp` in seconds (or `timestamp_ms`) and positive "
            f"`input_tokens`, `output_tokens` if any ({type(error).__name__}: {error})"
        ) from None


def _tokens(entry: dict[str, object], which: str) -> int | None:
    given = entry.get(f"{which}_tokens", entry.get(f"{which}_length"))
    if given is None:
        return None
    if not isinstance(given, int) or given < 1:
        raise ValueError(f"{which}_tokens is {given!r}")
    return given
