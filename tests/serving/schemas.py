"""Strict schemas: of Kubernetes for what it knows, ours for what it does not."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

# The oldest that serving needs (native sidecars), what EKS offers, the newest of the schemas.
VERSIONS = ("1.33", "1.35", "1.37")
_ALL = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
# Kinds that come with a chart, and the file with what we write of them.
_OURS = {
    ("keda.sh/v1alpha1", "ScaledObject"): "scaled_object",
    ("external-secrets.io/v1", "ExternalSecret"): "external_secret",
    ("monitoring.coreos.com/v1", "PodMonitor"): "pod_monitor",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheus_rule",
}


def check(item: dict[str, Any], version: str) -> None:
    """Raises ValidationError when the object has a key or a value that its kind does not."""
    _validator(item["apiVersion"], item["kind"], version).validate(item)


# `kubernetes_validate.validate` reads 1.5 MB of definitions for every object; this, once a version.
@cache
def _validator(api_version: str, kind: str, version: str) -> jsonschema.Draft202012Validator:
    if ours := _OURS.get((api_version, kind)):
        file = Path(__file__).with_name(f"{ours}.schema.json")
        return jsonschema.Draft202012Validator(json.loads(file.read_text()))
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((_folder(version) / f"{kind.lower()}-{group}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    resource = Resource.from_contents(
        json.loads((_folder(version) / "_definitions.json").read_text())
    )
    return (resource @ Registry()).crawl()


def _folder(version: str) -> Path:
    return _ALL / f"v{version}.0-local-strict"
