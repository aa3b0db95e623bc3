"""What an air gap must carry over: images, charts and models, and a script that mirrors them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.catalog.release import load_release
from freehold.config import load_stack
from freehold.planning.plan import make_plan

from .render_digests import images_in

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
  # The images inside a chart, with the values that this stack gives it; the reloader's is an argument.
  jq .values <<<"$chart" | helm template "$name" "$file" -f - |
    sed -nE 's/^ *(- )?(image: *|--prometheus-config-reloader=)"?([^" ]+)"?$/\\3/p' |
    sort -u | while read -r image; do
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
    mirror: str | None,
) -> None:
    """`bundle.json` and `mirror.sh`. Digests and checksums stand where the release knows them; what
    stands in front of images because the stack has a `mirror` already is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned = load_release().charts
    before = f"{mirror.rstrip('/')}/" if mirror else ""
    images = {image.removeprefix(before) for image in images_in([*objects.values()])}
    bundle = {
        "images": [_image(reference) for reference in sorted(images)],
        "charts": [
            {
                "name": name,
                "version": chart["version"],
                "values": _without(before, chart["values"]),
                # Of its makers, also where the stack takes it from a mirror.
                "repository": pinned[name]["repository"],
                "sha256": pinned[name].get("sha256"),
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
    # Built from workloads/images: for the stack's own registry, for a mirror, or on the node itself.
    own = reference.startswith(("<", "localhost/")) or "/" not in reference
    return {"reference": name, "digest": digest or None, "own": own}


def _without(before: str, value: Any) -> Any:
    """The same, with nothing in front of registries."""
    if isinstance(value, Mapping):
        return {key: _without(before, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(before, inner) for inner in value]
    return value.removeprefix(before) if isinstance(value, str) else value


def _models(stack: str, root: Path) -> list[dict[str, str | None]]:
    plan = make_plan(stack, load_stack(stack, root))
    return [
        {"pool": pool.name, "repository": pool.settings.model, "revision": pool.settings.revision}
        for pool in plan.pools
        if not pool.hosted
    ]
