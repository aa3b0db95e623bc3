"""`exp`, `log` and `minimum` of a plain number, or of a numpy array entry by entry.

The command line plans with plain numbers and never needs numpy, which takes a tenth of a second to
import; only the calibration runs all measured rows at once.
"""

from __future__ import annotations

import math
from typing import Any


def exp(x: Any) -> Any:
    return math.exp(x) if isinstance(x, int | float) else _numpy().exp(x)


def log(x: Any) -> Any:
    return math.log(x) if isinstance(x, int | float) else _numpy().log(x)


def minimum(x: Any, most: float) -> Any:
    return min(x, most) if isinstance(x, int | float) else _numpy().minimum(x, most)


def _numpy() -> Any:
    import numpy

    return numpy
