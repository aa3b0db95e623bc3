"""The pinned release: the exact versions that were proven together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True)
class Release:
    """Versions by package, tool or service name, as `release.yaml` has them."""

    python_packages: Mapping[str, str]
    tools: Mapping[str, str]
    services: Mapping[str, str]

    @property
    def vllm(self) -> str:
        return self.python_packages["vllm"]


@cache
def load_release() -> Release:
    text = files("freehold.catalog").joinpath("release.yaml").read_text(encoding="utf-8")
    return Release(**yaml.safe_load(text))
