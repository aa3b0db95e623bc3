"""The little of Kubernetes' API that the tests speak."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx

Object = dict[str, Any]
_PLURALS = {
    "Ingress": "ingresses",
    "NetworkPolicy": "networkpolicies",
    "StorageClass": "storageclasses",
}
_CLUSTER_WIDE = {
    "Namespace",
    "Node",
    "PriorityClass",
    "StorageClass",
    "RuntimeClass",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
}
# What others need comes first.
_FIRST = [
    "CustomResourceDefinition",
    "Namespace",
    "PriorityClass",
    "StorageClass",
    "RuntimeClass",
    "NetworkPolicy",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
]


def path_of(item: Object, namespace: str | None = None) -> str:
    """Of the object, or of all of its kind in a namespace where it has no name."""
    version, kind = item["apiVersion"], item["kind"]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    if plural.endswith("ys") and plural not in _PLURALS.values():
        plural = f"{plural[:-2]}ies"
    if plural.endswith("classs"):
        plural = f"{plural[:-1]}es"
    where = namespace or item.get("metadata", {}).get("namespace")
    middle = "" if kind in _CLUSTER_WIDE or not where else f"/namespaces/{where}"
    name = item.get("metadata", {}).get("name")
    return f"{root}{middle}/{plural}" + (f"/{name}" if name else "")


def is_cluster_wide(item: Object) -> bool:
    return item["kind"] in _CLUSTER_WIDE


def in_order(objects: Iterable[Object]) -> list[Object]:
    def place(item: Object) -> int:
        return _FIRST.index(item["kind"]) if item["kind"] in _FIRST else len(_FIRST)

    return sorted(objects, key=place)


def apply(client: httpx.Client, item: Object) -> httpx.Response:
    """Server-side apply, and unknown fields are an error."""
    return client.patch(
        path_of(item),
        params={"fieldManager": "freehold", "fieldValidation": "Strict", "force": "true"},
        headers={"content-type": "application/apply-patch+yaml"},
        content=json.dumps(item),
    )


def get(client: httpx.Client, path: str) -> Object:
    return client.get(path).raise_for_status().json()


def items(client: httpx.Client, path: str) -> list[Object]:
    return get(client, path)["items"]


def pods(client: httpx.Client, namespace: str) -> list[Object]:
    return items(client, f"/api/v1/namespaces/{namespace}/pods")


def merge(client: httpx.Client, path: str, change: Object) -> Object:
    headers = {"content-type": "application/merge-patch+json"}
    return client.patch(path, headers=headers, content=json.dumps(change)).raise_for_status().json()


def evict(client: httpx.Client, pod: Object) -> httpx.Response:
    meta = {key: pod["metadata"][key] for key in ("name", "namespace")}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    return client.post(f"{path_of({**pod, 'apiVersion': 'v1', 'kind': 'Pod'})}/eviction", json=body)


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


def apps(found: Iterable[Object], key: str = "app.kubernetes.io/name") -> Iterator[str]:
    for pod in found:
        yield pod["metadata"]["labels"].get(key, pod["metadata"]["name"])
