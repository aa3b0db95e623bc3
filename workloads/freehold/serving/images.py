"""Which image each container runs: by digest where the release knows it, else by exact tag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import pulumi

from freehold.catalog.release import Release
from freehold.cluster.targets import Target, image_of


@dataclass(frozen=True)
class Images:
    """References as a container's `image` takes them."""

    engine: pulumi.Input[str]
    """Ours: vLLM with LMCache and our connector (workloads/images/engine)."""
    gateway: pulumi.Input[str]
    """Ours: the picker, and what writes Envoy's configuration (workloads/images/gateway)."""
    router: pulumi.Input[str]
    """Ours: vLLM's router, for pools whose prompts are read apart (workloads/images/router)."""
    envoy: str
    redis: str
    warnings: tuple[str, ...]


def engine_tag(release: Release) -> str:
    """The versions that decide what is inside."""
    packages = release.python_packages
    return f"{packages['vllm']}-lmcache{packages['lmcache']}-freehold{version('freehold')}"


def gateway_tag(release: Release) -> str:
    return f"{version('freehold')}-python{_tag(release.images['python'])}"


def router_tag(release: Release) -> str:
    return f"{release.python_packages['vllm-router']}-python{_tag(release.images['python'])}"


def images_of(release: Release, target: Target, *, own_redis: bool) -> Images:
    registry = pulumi.Output.from_input(target.image_registry)

    def own(name: str, tag: str) -> pulumi.Output[str]:
        return registry.apply(lambda host: f"{host.rstrip('/')}/{name}:{tag}")

    return Images(
        engine=own("engine", engine_tag(release)),
        gateway=own("gateway", gateway_tag(release)),
        router=own("router", router_tag(release)),
        envoy=image_of(target, release.images["envoy"]),
        redis=image_of(target, release.images["redis"]),
        warnings=tuple(_unpinned(release, ["envoy", "redis"] if own_redis else ["envoy"])),
    )


def _unpinned(release: Release, used: list[str]) -> Iterator[str]:
    for name in used:
        if "@sha256:" not in release.images[name]:
            yield f"image {release.images[name]} is named by tag: whoever owns the tag can change it"


def _tag(reference: str) -> str:
    return reference.partition("@")[0].rpartition(":")[2]
