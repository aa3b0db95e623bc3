"""Pod Security's level `restricted` (kubernetes.io/docs/concepts/security/pod-security-standards, read
2026-11-24), and a read-only root file system besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def problems(spec: dict[str, Any]) -> list[str]:
    return [*_problems(spec)]


def _problems(spec: dict[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"volume {volume}"
    pod = spec.get("securityContext", {})
    if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile"
    if pod.get("runAsNonRoot") is not True or not pod.get("runAsUser"):
        yield "root"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        name, own = container["name"], container.get("securityContext", {})
        if own.get("privileged"):
            yield f"{name}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: writable root"
        for port in container.get("ports", []):
            if "hostPort" in port:
                yield f"{name}: hostPort"
