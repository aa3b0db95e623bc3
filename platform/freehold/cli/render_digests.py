"""`freehold render --resolve-digests`: what a tag names today, written beside the tag."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from freehold.catalog.release import load_release
from freehold.config import FreeholdError

from .registry import NoDigest, digest_of, new_client

# References that no registry answers for: what only the cloud knows, and what lies on the node itself.
_NO_REGISTRY = ("<", "localhost/")


def images_in(value: Any) -> Iterator[str]:
    """Every container's image, wherever a pod is described."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "image" and isinstance(inner, str):
                yield inner
            else:
                yield from images_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from images_in(inner)


def resolve(objects: Iterable[Any], *, mirror: str | None) -> dict[str, str]:
    """Image by tag -> the same with `@sha256:...`: of all in `objects`, and, where no mirror stands in
    front of images, of the release's others, which our own are built on.

    Raises FreeholdError where one is not known; what is known then is of no use.
    """
    wanted = set(images_in([*objects]))
    if mirror is None:
        wanted |= set(load_release().images.values())
    asked = [i for i in sorted(wanted) if "@" not in i and not i.startswith(_NO_REGISTRY)]
    found, problems = {}, []
    with new_client() as client:
        for image in asked:
            try:
                found[image] = f"{image}@{digest_of(client, image)}"
            except NoDigest as problem:
                problems.append(f"{image}: {problem}")
    if problems:
        raise FreeholdError(
            "--resolve-digests: nothing was written, for want of the digests of\n  "
            + "\n  ".join(problems)
            + "\nrun it where these registries are reachable, or leave it out: tags stay tags then"
        )
    return found


def by_digest(value: Any, digests: Mapping[str, str]) -> Any:
    """The same, with every image that is in `digests` named so."""
    if isinstance(value, Mapping):
        return {
            key: digests.get(inner, inner)
            if key == "image" and isinstance(inner, str)
            else by_digest(inner, digests)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [by_digest(inner, digests) for inner in value]
    return value


def release_lines(digests: Mapping[str, str], *, mirror: str | None) -> list[str]:
    """Lines of the release file's `images` that name these digests from now on."""
    before = f"{mirror.rstrip('/')}/" if mirror else ""
    return [
        f"  {name}: {tag}@{digests[before + tag].rpartition('@')[2]}"
        for name, tag in load_release().images.items()
        if before + tag in digests
    ]
