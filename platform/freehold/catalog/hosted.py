"""What others ask for serving the same models, one row a provider and model in `hosted.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .reading import read_data


@dataclass(frozen=True)
class HostedPrice:
    """US dollars a million tokens."""

    input: float
    output: float
    date: str
    unverified: bool = False


@cache
def load_hosted() -> Mapping[str, Mapping[str, HostedPrice]]:
    """Provider -> model of the catalog -> price."""
    return {
        provider: {
            model: HostedPrice(**{**row, "date": str(row["date"])}) for model, row in rows.items()
        }
        for provider, rows in read_data("hosted.yaml").items()
    }
