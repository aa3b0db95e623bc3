"""A cluster that somebody else runs: getting in, and leaving alone what is in use."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from .api import apply, path_of
from .guest import refuse_a_cluster_in_use
from .kubeconfig import Unusable, client_of

_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "freehold-test"},
    "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "cluster-admin",
    },
    "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
}


def test_a_cluster_with_nodes_of_its_own_is_refused(client: httpx.Client) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "somebodys"}}
    refuse_a_cluster_in_use(client)
    apply(client, node).raise_for_status()
    try:
        with pytest.raises(pytest.exit.Exception, match=r"1 nodes of its own .somebodys"):
            refuse_a_cluster_in_use(client)
    finally:
        client.delete(path_of(node)).raise_for_status()


def test_a_token_and_inlined_certificates_lead_in(
    client: httpx.Client, kubeconfig: Path, tmp_path: Path
) -> None:
    """As a cluster's keeper writes a kubeconfig for a service account."""
    apply(client, _BINDING).raise_for_status()
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    answer = client.post(path, json=request).raise_for_status()
    tree = yaml.safe_load(kubeconfig.read_text())
    cluster = tree["clusters"][0]["cluster"]
    trusted = Path(cluster.pop("certificate-authority")).read_bytes()
    cluster["certificate-authority-data"] = base64.b64encode(trusted).decode()
    tree["users"][0]["user"] = {"token": answer.json()["status"]["token"]}
    try:
        with client_of(written(tmp_path, tree)) as other:
            assert other.get("/api/v1/nodes").status_code == 200
    finally:
        client.delete(path_of(_BINDING)).raise_for_status()


def written(folder: Path, tree: dict[str, Any]) -> Path:
    (folder / "kubeconfig").write_text(json.dumps(tree))
    return folder / "kubeconfig"


def test_a_login_by_a_program_is_no_way_in(tmp_path: Path) -> None:
    tree = {
        "current-context": "work",
        "contexts": [{"name": "work", "context": {"cluster": "eks", "user": "me"}}],
        "clusters": [{"name": "eks", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "me", "user": {"exec": {"command": "aws"}}}],
    }
    with pytest.raises(Unusable, match="neither `token` nor `client-certificate`, but exec"):
        client_of(written(tmp_path, tree))
    with pytest.raises(Unusable, match="no `home` among its contexts, which are: work"):
        client_of(written(tmp_path, {**tree, "current-context": "home"}))
