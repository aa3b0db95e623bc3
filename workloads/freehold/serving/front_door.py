"""The way in: a load balancer before the gateway, or an Ingress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Target
from freehold.planning.plan import Plan

from .names import DOOR_PORT, Names, labels
from .pods import metadata

UNKNOWN_HOST = "(no address yet)"


class FrontDoor(pulumi.ComponentResource):
    """Creates the gateway's Service and, where the target has an Ingress, that. Output: `base_url`."""

    base_url: pulumi.Output[str]

    def __init__(
        self,
        plan: Plan,
        names: Names,
        target: Target,
        opts: pulumi.ResourceOptions,
        ready: Sequence[pulumi.Resource] = (),
    ) -> None:
        super().__init__("freehold:serving:FrontDoor", "front-door", None, opts)
        door = target.front_door
        by_ingress = door.kind == "ingress"
        about = metadata("gateway", names.gateway, "gateway")
        port = 80 if by_ingress else door.port
        service = k8s.core.v1.Service(
            "gateway",
            metadata=about if by_ingress else _annotated(about, door.annotations),
            spec=k8s.core.v1.ServiceSpecArgs(
                type="ClusterIP" if by_ingress else "LoadBalancer",
                load_balancer_class=None if by_ingress else door.class_name,
                load_balancer_source_ranges=None
                if by_ingress
                else list(door.source_ranges) or None,
                selector=labels("gateway"),
                ports=[k8s.core.v1.ServicePortArgs(name="http", port=port, target_port=DOOR_PORT)],
            ),
            opts=target.options(self, owns_outside=not by_ingress, depends_on=ready),
        )
        shown = service
        tls = plan.gateway.tls
        if by_ingress:
            shown = k8s.networking.v1.Ingress(
                "gateway",
                metadata=_annotated(about, door.annotations),
                spec=_ingress(door.class_name, tls.secret if tls else None),
                opts=target.options(self, owns_outside=True, depends_on=[*ready, service]),
            )
        scheme = "https" if tls else "http"
        default = 443 if tls else 80
        outside = default if by_ingress else door.port
        suffix = "" if outside == default else f":{outside}"
        self.base_url = shown.status.apply(lambda status: f"{scheme}://{_host(status)}{suffix}/v1")
        self.register_outputs({"baseUrl": self.base_url})


def _annotated(about: k8s.meta.v1.ObjectMetaArgs, annotations: Any) -> k8s.meta.v1.ObjectMetaArgs:
    return k8s.meta.v1.ObjectMetaArgs(
        name=about.name,
        namespace=about.namespace,
        labels=about.labels,
        annotations=dict(annotations) or None,
    )


def _ingress(class_name: str | None, secret: str | None) -> k8s.networking.v1.IngressSpecArgs:
    backend = k8s.networking.v1.IngressBackendArgs(
        service=k8s.networking.v1.IngressServiceBackendArgs(
            name="gateway", port=k8s.networking.v1.ServiceBackendPortArgs(name="http")
        )
    )
    path = k8s.networking.v1.HTTPIngressPathArgs(path="/", path_type="Prefix", backend=backend)
    return k8s.networking.v1.IngressSpecArgs(
        ingress_class_name=class_name,
        rules=[
            k8s.networking.v1.IngressRuleArgs(
                http=k8s.networking.v1.HTTPIngressRuleValueArgs(paths=[path])
            )
        ],
        tls=[k8s.networking.v1.IngressTLSArgs(secret_name=secret)] if secret else None,
    )


def _host(status: Any) -> str:
    """Of the first address that the load balancer has."""
    balancer = getattr(status, "load_balancer", None)
    for address in getattr(balancer, "ingress", None) or ():
        if address.hostname or address.ip:
            return address.hostname or address.ip
    return UNKNOWN_HOST
