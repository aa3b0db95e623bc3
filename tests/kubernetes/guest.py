"""How the tests behave on a cluster that is not theirs alone.

They put nodes, namespaces and definitions there, all with the label `freehold.test/pretended`, and take
them away again. The scheduler gives pods of anybody to nodes that are none, so a cluster with nodes of
its own is refused unless whoever runs the tests says that nothing else is scheduled meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import yaml

from .api import Object, apply, items, path_of
from .binaries import definitions
from .nodes import OURS

# Cluster-wide kinds that a stack brings, what uses a thing before it.
_KINDS = (
    ("v1", "Namespace"),
    ("v1", "Node"),
    ("storage.k8s.io/v1", "StorageClass"),
    ("scheduling.k8s.io/v1", "PriorityClass"),
    ("node.k8s.io/v1", "RuntimeClass"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
)
(_LABEL,) = (f"{key}={value}" for key, value in OURS.items())


@contextmanager
def make_room(client: httpx.Client, *, shared: bool) -> Iterator[None]:
    """What an earlier run left is gone, and the definitions of charts are there."""
    if not shared:
        refuse_a_cluster_in_use(client)
    sweep(client)
    for definition in _definitions():
        if client.get(path_of(definition)).status_code == 404:
            apply(client, marked(definition)).raise_for_status()
    try:
        yield
    finally:
        sweep(client)


def refuse_a_cluster_in_use(client: httpx.Client) -> None:
    """Ends the tests where a node is not of their own making."""
    foreign = [
        node["metadata"]["name"]
        for node in items(client, "/api/v1/nodes")
        if not OURS.items() <= node["metadata"].get("labels", {}).items()
    ]
    if foreign:
        pytest.exit(
            f"the cluster at {client.base_url} has {len(foreign)} nodes of its own ({foreign[0]}, ...): "
            "these tests add nodes that are none, and pods of others would be given to them. Use an empty "
            "cluster, or set FREEHOLD_TEST_SHARED_CLUSTER=1 where nothing else is scheduled meanwhile",
            returncode=2,
        )


def marked(item: Object) -> Object:
    """With the label by which it is found again."""
    about = item["metadata"]
    return {**item, "metadata": {**about, "labels": {**about.get("labels", {}), **OURS}}}


def sweep(client: httpx.Client) -> None:
    for version, kind in _KINDS:
        found = client.get(
            path_of({"apiVersion": version, "kind": kind}), params={"labelSelector": _LABEL}
        )
        for item in found.raise_for_status().json()["items"]:
            client.delete(path_of({**item, "apiVersion": version, "kind": kind}))


def _definitions() -> Iterator[Object]:
    for file in definitions():
        for item in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if item and item["kind"] == "CustomResourceDefinition":
                yield item
