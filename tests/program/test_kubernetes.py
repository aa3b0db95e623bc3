"""Every Kubernetes object of every stack passes the release's own strict schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from program.programs import STACKS, recorded
from serving.schemas import check

from freehold.catalog.release import load_release

# Objects of CRDs: their schemas come with their own charts.
_CUSTOM = ("keda.sh", "monitoring.coreos.com")


def objects(stack: str) -> list[dict[str, Any]]:
    return [
        json.loads(json.dumps(dict(resource.inputs)))
        for resource in recorded(stack).resources
        if resource.type.startswith("kubernetes:")
        and "kind" in resource.inputs
        and not any(group in resource.inputs["apiVersion"] for group in _CUSTOM)
    ]


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_is_one_of_the_release_s_kubernetes(stack: str) -> None:
    for found in objects(stack):
        check(found, load_release().kubernetes)


def test_a_misspelt_key_is_found() -> None:
    job = next(found for found in objects("small") if found["kind"] == "Job")
    job["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(jsonschema.ValidationError):
        check(job, load_release().kubernetes)
