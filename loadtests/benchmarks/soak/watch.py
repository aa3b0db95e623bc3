"""What the gateway's processes hold, second by second, and whether it grows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import gevent
import numpy as np
from numpy.typing import ArrayLike

from .site import Site

MIB = 2**20
_BLOCKS = 20
# Student's t for 95 % of `_BLOCKS - 2` degrees of freedom (scipy.stats.t.ppf(0.975, 18)).
_T = 2.101


@dataclass(frozen=True)
class Sample:
    at: float
    """On the clock of `time.perf_counter`."""
    envoy_mib: float
    """Resident memory."""
    picker_mib: float
    envoy_files: int
    """Open file descriptors: a connection is one."""
    picker_files: int
    sockets_mib: float
    """What the kernel holds for all TCP sockets of this machine."""


class Watch:
    def __init__(self, site: Site, every: float = 1.0) -> None:
        self._site = site
        self._every = every
        self.samples = [self._sample()]
        self._greenlet = gevent.spawn(self._go_on)

    def stop(self) -> None:
        self._greenlet.kill()
        self.samples.append(self._sample())

    def between(self, began: float, ended: float) -> list[Sample]:
        return [sample for sample in self.samples if began <= sample.at < ended]

    def _go_on(self) -> None:
        while True:
            gevent.sleep(self._every)
            self.samples.append(self._sample())

    def _sample(self) -> Sample:
        envoy, picker = self._site.envoy, self._site.picker
        return Sample(
            at=time.perf_counter(),
            envoy_mib=envoy.memory_info().rss / MIB,
            picker_mib=picker.memory_info().rss / MIB,
            envoy_files=envoy.num_fds(),
            picker_files=picker.num_fds(),
            sockets_mib=_socket_pages() * 4096 / MIB,
        )


def _socket_pages() -> int:
    """`mem` of the TCP line in /proc/net/sockstat."""
    with open("/proc/net/sockstat", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("TCP:"))
    words = line.split()
    return int(words[words.index("mem") + 1])


@dataclass(frozen=True)
class Slope:
    """MiB an hour, by least squares, and half the width of its 95 % interval."""

    mib_per_hour: float
    uncertainty: float

    def __str__(self) -> str:
        if math.isnan(self.mib_per_hour):
            return "too short to say"
        return f"{self.mib_per_hour:+.1f} ± {self.uncertainty:.1f}"

    @property
    def grows(self) -> bool:
        return self.mib_per_hour > self.uncertainty


def slope_of(seconds: ArrayLike, mib: ArrayLike) -> Slope:
    """Fitted to the means of twenty equal parts: neighbours in time are alike, and a fit that took each
    second for a new observation would believe itself too much."""
    parts = [
        part for part in np.array_split(np.stack([seconds, mib], axis=1), _BLOCKS) if len(part)
    ]
    if len(parts) < _BLOCKS:
        return Slope(math.nan, math.nan)
    x, y = np.array([part.mean(axis=0) for part in parts]).T
    x = (x - x.mean()) / 3600
    rise = float(x @ y / (x @ x))
    rest = y - y.mean() - rise * x
    error = math.sqrt(float(rest @ rest) / (_BLOCKS - 2) / float(x @ x))
    return Slope(rise, _T * error)
