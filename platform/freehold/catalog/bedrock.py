"""Models that Bedrock serves, by the id that it knows them by: one row each in `bedrock.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from .reading import read_data


@dataclass(frozen=True)
class BedrockModel:
    """One model at the OpenAI-compatible endpoint, on demand."""

    id: str
    model: str | None
    """What the catalog calls the same weights; None where it does not know them."""
    regions: tuple[str, ...]
    unverified: tuple[str, ...] = ()
    """Names of fields that no source was found for."""


@cache
def load_bedrock_models() -> Mapping[str, BedrockModel]:
    """By Bedrock's model id, in the order of the file."""
    return {
        id_: BedrockModel(
            id=id_,
            model=row["model"],
            regions=tuple(row["regions"]),
            unverified=tuple(row.get("unverified", ())),
        )
        for id_, row in read_data("bedrock.yaml").items()
    }
