"""Many loops as one, with a numpy array for each number: how the calibration runs all rows at once."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from .closed_loop import Loop
from .work import DecodeWork, PrefillWork

Part = TypeVar("Part", Loop, DecodeWork, PrefillWork)


def stack(items: list[Part]) -> Part:
    """Many as one, with arrays for numbers."""
    fields: dict[str, Any] = {}
    for name in vars(items[0]):
        column = [getattr(item, name) for item in items]
        fields[name] = np.array(column, dtype=float) if _is_number(column[0]) else stack(column)
    return type(items[0])(**fields)


def select(item: Part, rows: np.ndarray) -> Part:
    """The entries of a stacked one where `rows` is true."""
    fields: dict[str, Any] = {}
    for name, value in vars(item).items():
        fields[name] = value[rows] if isinstance(value, np.ndarray) else select(value, rows)
    return type(item)(**fields)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
