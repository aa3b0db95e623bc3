"""Rules about what runs in the cluster. What charts render is seen only where the real engine
unpacks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from .rule import Inputs, ResourceRule, Seen, StackRule, at

_WORKLOADS = tuple(
    f"kubernetes:{group}:{kind}"
    for group, kinds in {
        "apps/v1": ("Deployment", "StatefulSet", "DaemonSet"),
        "batch/v1": ("Job",),
    }.items()
    for kind in kinds
)
_NAMESPACE = "kubernetes:core/v1:Namespace"
_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
_STORAGE = "kubernetes:storage.k8s.io/v1:StorageClass"
# Whoever makes a workload privileged says why in this annotation.
_WHY_PRIVILEGED = "freehold/why-privileged"
_ENFORCE = "pod-security.kubernetes.io/enforce"


def _containers(inputs: Inputs) -> list[dict[str, Any]]:
    spec = at(inputs, "spec.template.spec", {})
    return [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]


def _images(inputs: Inputs) -> Iterator[str]:
    for container in _containers(inputs):
        image = str(container.get("image", ""))
        if image == UNKNOWN:
            continue
        name = image.rpartition("/")[2]
        if "@sha256:" not in image and (":" not in name or name.endswith(":latest")):
            yield f"image {image} may be another one tomorrow: name a version or a digest"


def _privileges(inputs: Inputs) -> Iterator[str]:
    spec = at(inputs, "spec.template.spec", {})
    pod = spec.get("securityContext") or {}
    why = (at(inputs, "metadata.annotations") or {}).get(_WHY_PRIVILEGED)
    for container in _containers(inputs):
        own = container.get("securityContext") or {}
        merged, name = {**pod, **own}, container.get("name")
        if merged.get("runAsNonRoot") is not True and not why:
            yield f"container {name} may run as root"
        if own.get("allowPrivilegeEscalation") is not False and not why:
            yield f"container {name} may gain privileges"
        if own.get("privileged") and not why:
            yield f"container {name} is privileged"
        if "ALL" not in (at(own, "capabilities.drop") or []):
            yield f"container {name} keeps capabilities"
        if at(merged, "seccompProfile.type") not in ("RuntimeDefault", "Localhost"):
            yield f"container {name} has no seccomp profile"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"its pods share the node's: {key}"


def _requests(inputs: Inputs) -> Iterator[str]:
    for container in _containers(inputs):
        asked = at(container, "resources.requests") or {}
        if missing := {"cpu", "memory"} - set(asked):
            yield f"container {container.get('name')} asks for no {' and '.join(sorted(missing))}"


def _pod_security(inputs: Inputs) -> Iterator[str]:
    level = (at(inputs, "metadata.labels") or {}).get(_ENFORCE)
    if level not in ("restricted", "baseline", "privileged"):
        yield f"nothing holds its pods to a level: label {_ENFORCE}"


def _storage(inputs: Inputs) -> Iterator[str]:
    if inputs.get("provisioner") == "ebs.csi.aws.com":
        encrypted = str((inputs.get("parameters") or {}).get("encrypted", "")).lower()
        if encrypted != "true":
            yield "its volumes are not encrypted"


def _network_policies(resources: Sequence[Seen]) -> Iterator[str]:
    """A namespace with workloads of ours has a policy that selects every pod in it."""
    closed = {
        at(r.inputs, "metadata.namespace")
        for r in resources
        if r.type == _POLICY and not at(r.inputs, "spec.podSelector")
    }
    used = {at(r.inputs, "metadata.namespace") for r in resources if r.type in _WORKLOADS}
    for namespace in sorted(str(name) for name in used - closed):
        yield f"namespace {namespace} has no NetworkPolicy for all of its pods"


KUBERNETES_RULES = (
    ResourceRule(
        "image-versions",
        "EKS best practices: image security",
        "Images are named by version or digest.",
        _WORKLOADS,
        _images,
    ),
    ResourceRule(
        "pod-privileges",
        "CIS 4.2.1 to 4.2.5",
        "Containers run as nobody and stay so, or their workload says why not.",
        _WORKLOADS,
        _privileges,
    ),
    ResourceRule(
        "pod-requests",
        "EKS best practices: scheduling",
        "Containers say what they need.",
        _WORKLOADS,
        _requests,
    ),
    ResourceRule(
        "pod-security",
        "CIS 4.2.1",
        "Every namespace holds its pods to a level.",
        (_NAMESPACE,),
        _pod_security,
    ),
    ResourceRule(
        "volume-encryption",
        "EKS best practices: data encryption",
        "Volumes are encrypted.",
        (_STORAGE,),
        _storage,
    ),
    StackRule(
        "network-policies",
        "CIS 4.3.2, 5.4.4",
        "Every namespace with workloads is closed by default.",
        _network_policies,
    ),
)
