"""The namespaces of a stack's workloads, each held to a level of Pod Security."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import PodSecurity, Target, pod_security_labels

from .names import Names


def levels(
    names: Names, *, redis: bool, engines: bool = True, node_cache: bool = False
) -> dict[str, PodSecurity]:
    """Engines meet `restricted` too; `baseline` leaves room for what some models need, such as a
    larger set of system calls for a vendor's tools."""
    found: dict[str, PodSecurity] = {names.gateway: "restricted"}
    if engines:
        found = {names.models: "baseline", **found}
    if redis:
        found[names.cache] = "restricted"
    if node_cache:
        found[names.node_cache] = "privileged"
    return found


class Namespaces(pulumi.ComponentResource):
    """Creates a namespace for each part that the stack has."""

    all: Mapping[str, k8s.core.v1.Namespace]

    def __init__(
        self,
        names: Names,
        target: Target,
        opts: pulumi.ResourceOptions,
        *,
        redis: bool,
        engines: bool = True,
        node_cache: bool = False,
    ) -> None:
        super().__init__("freehold:serving:Namespaces", "namespaces", None, opts)
        held = levels(names, redis=redis, engines=engines, node_cache=node_cache)
        self.all = {
            namespace: k8s.core.v1.Namespace(
                namespace,
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=namespace,
                    labels={
                        **pod_security_labels(level),
                        "app.kubernetes.io/part-of": "freehold",
                    },
                ),
                opts=target.options(self),
            )
            for namespace, level in held.items()
        }
        self.register_outputs({})
