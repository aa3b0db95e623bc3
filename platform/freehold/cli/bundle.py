"""What an air gap must carry over: images, charts and models, and a script that mirrors them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from freehold.catalog.release import load_release
from freehold.config import load_stack
from freehold.planning.plan import make_plan

_SCRIPT = """#!/usr/bin/env bash
# Copies every image and chart of bundle.json to a registry inside: ./mirror.sh REGISTRY
# Needs crane, helm, jq and sha256sum on a machine that reaches both sides.
set -euo pipefail
registry=${1:?usage: mirror.sh REGISTRY}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$here/charts"
jq -r '.images[] | select(.own | not) | .reference' "$here/bundle.json" | while read -r image; do
  crane copy "$image" "$registry/${image%@*}"
done
jq -c '.charts[]' "$here/bundle.json" | while read -r chart; do
  name=$(jq -r .name <<<"$chart") version=$(jq -r .version <<<"$chart")
  helm pull "$name" --repo "$(jq -r .repository <<<"$chart")" --version "$version" -d "$here/charts"
  file="$here/charts/$name-$version.tgz"
  sum=$(jq -r '.sha256 // empty' <<<"$chart")
  if [ -n "$sum" ]; then echo "$sum  $file" | sha256sum -c -; fi
  # The images inside a chart, with the values that this stack gives it.
  jq .values <<<"$chart" | helm template "$name" "$file" -f - |
    sed -nE 's/^ *image: *"?([^" ]+)"?$/\\1/p' | sort -u | while read -r image; do
      crane copy "$image" "$registry/${image%@*}"
    done
  helm push "$file" "oci://$registry/charts"
done
"""


def write_bundle(
    folder: Path,
    stack: str,
    root: Path,
    objects: Mapping[str, Any],
    charts: Mapping[str, Any],
) -> None:
    """`bundle.json` and `mirror.sh`. Digests and checksums stand where the release knows them."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned = load_release().charts
    bundle = {
        "images": [_image(reference) for reference in sorted(set(_images(list(objects.values()))))],
        "charts": [
            {
                "name": name,
                **{key: chart[key] for key in ("repository", "version", "values")},
                "sha256": pinned.get(name, {}).get("sha256"),
            }
            for name, chart in charts.items()
        ],
        "models": _models(stack, root),
    }
    (folder / "bundle.json").write_text(json.dumps(bundle, indent=2) + "\n")
    script = folder / "mirror.sh"
    script.write_text(_SCRIPT)
    script.chmod(0o755)


def _image(reference: str) -> dict[str, Any]:
    name, _, digest = reference.partition("@")
    # Built from workloads/images and pushed to the stack's own registry.
    return {"reference": name, "digest": digest or None, "own": reference.startswith("<")}


def _images(value: Any) -> Iterator[str]:
    """Every container's image, wherever a pod is described."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "image" and isinstance(inner, str):
                yield inner
            else:
                yield from _images(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _images(inner)


def _models(stack: str, root: Path) -> list[dict[str, str | None]]:
    plan = make_plan(stack, load_stack(stack, root))
    return [
        {"pool": pool.name, "repository": pool.settings.model, "revision": pool.settings.revision}
        for pool in plan.pools
    ]
