"""The pinned release: the exact versions that were proven together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from .reading import read_data


@dataclass(frozen=True)
class Release:
    """Versions by package, tool or service name, as `release.yaml` has them."""

    python_packages: Mapping[str, str]
    tools: Mapping[str, str]
    services: Mapping[str, str]
    kubernetes: str
    """Minor version of the cluster."""
    eks_addons: Mapping[str, str]
    charts: Mapping[str, Mapping[str, str]]
    """`repository`, `version` and, where one is published, `sha256` by chart."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Repository and tag, with `@sha256:...` after it where the digest was looked up."""
    engine_image: Mapping[str, str] = field(default_factory=dict)
    """Python packages that only the engine's image carries, besides `python_packages`."""
    test_cluster: Mapping[str, str] = field(default_factory=dict)
    """What `make test-cluster` runs for the cluster's control plane."""

    @property
    def vllm(self) -> str:
        return self.python_packages["vllm"]


@cache
def load_release() -> Release:
    return Release(**read_data("release.yaml"))
