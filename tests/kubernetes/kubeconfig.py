"""An administrator's client from a kubeconfig."""

from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path
from typing import Any

import httpx
import yaml


class Unusable(Exception):
    """A kubeconfig that says how to get in by means that are not spoken here."""


def client_of(kubeconfig: Path) -> httpx.Client:
    """By the current context. Credentials are a token or a client certificate.

    Raises Unusable with what is missing.
    """
    tree = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    context = _named(tree, "contexts", tree.get("current-context") or "")["context"]
    cluster = _named(tree, "clusters", context["cluster"])["cluster"]
    user = _named(tree, "users", context["user"])["user"]
    base = kubeconfig.resolve().parent
    trusted = ssl.create_default_context(cadata=_text(cluster, "certificate-authority", base))
    headers = {}
    if token := user.get("token"):
        headers["authorization"] = f"Bearer {token}"
    elif certificate := _text(user, "client-certificate", base):
        with tempfile.TemporaryDirectory() as folder:
            both = Path(folder) / "both.pem"
            both.touch(mode=0o600)
            both.write_text(f"{certificate}\n{_text(user, 'client-key', base)}")
            trusted.load_cert_chain(both)
    else:
        raise Unusable(
            f"{kubeconfig}: the user {context['user']} has neither `token` nor `client-certificate`, "
            f"but {', '.join(user) or 'nothing'}: write one that has, such as with `kubectl create "
            "token` for a service account that may do everything"
        )
    return httpx.Client(base_url=cluster["server"], headers=headers, verify=trusted, timeout=60)


def _named(tree: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    for entry in tree.get(kind) or []:
        if entry["name"] == name:
            return entry
    known = ", ".join(entry["name"] for entry in tree.get(kind) or []) or "none"
    raise Unusable(f"the kubeconfig names no `{name}` among its {kind}, which are: {known}")


def _text(section: dict[str, Any], key: str, base: Path) -> str | None:
    """What stands there, or in the file that is named there."""
    if data := section.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    return (base / section[key]).read_text(encoding="utf-8") if section.get(key) else None
