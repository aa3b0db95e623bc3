"""Who may speak to whom: nobody, but for what is listed here.

Engines answer without a key on half of their paths (vLLM checks it under /v1 only), so that only the
gateway may reach them is what keeps them closed.
"""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.targets import Egress, Target

from .names import (
    CACHE_METRICS_PORT,
    DOOR_PORT,
    ENGINE_PORT,
    NIXL_DATA_PORTS,
    NIXL_PORT,
    PICKER_HTTP_PORT,
    PICKER_PORT,
    REDIS_PORT,
    ROUTER_METRICS_PORT,
    ROUTER_PORT,
    STATS_PORT,
    App,
    Names,
    all_labels,
    labels,
)

_NAMESPACE = "kubernetes.io/metadata.name"  # Kubernetes puts it on every namespace
Peer = k8s.networking.v1.NetworkPolicyPeerArgs
Ingress = k8s.networking.v1.NetworkPolicyIngressRuleArgs
Outward = k8s.networking.v1.NetworkPolicyEgressRuleArgs


class NetworkPolicies(pulumi.ComponentResource):
    """Creates a policy that denies all in each namespace, and one for each app that allows its own."""

    def __init__(
        self,
        names: Names,
        target: Target,
        opts: pulumi.ResourceOptions,
        *,
        own_redis: bool,
        redis_endpoint: int | None,
        apart: bool,
        node_cache_port: int | None,
        namespaces: Sequence[pulumi.Resource],
        hosted_port: int | None = None,
    ) -> None:
        """`redis_endpoint` is the port of a Redis that the stack does not run; `apart`: a pool reads
        prompts and writes answers with different workers; `node_cache_port`: each node has an LMCache
        server of its own, there; `hosted_port`: no engine runs, the gateway asks somebody else's there."""
        super().__init__("freehold:serving:NetworkPolicies", "network-policies", None, opts)
        self._names, self._options = names, target.options(self, depends_on=namespaces)
        self._apart = apart
        self.all: list[pulumi.Resource] = []
        self._node_cache_port = node_cache_port
        if hosted_port:
            self._deny_all(names.gateway)
            outside = [*map(_outward, target.egress), Outward(ports=[_port(hosted_port)])]
            self._gateway(target.front_door.source_ranges, outside)
            self.register_outputs({})
            return
        others = [names.cache] if own_redis else []
        others += [names.node_cache] if node_cache_port else []
        for namespace in (names.models, names.gateway, *others):
            self._deny_all(namespace)
        to_redis = self._to_redis(own_redis, redis_endpoint)
        if node_cache_port:
            self._node_cache(node_cache_port, to_redis)
        self._engines(target.egress, to_redis)
        self._gateway(target.front_door.source_ranges, self._to_workers())
        self._picker()
        if apart:
            self._router()
        if own_redis:
            self._redis()
        self.register_outputs({})

    def _deny_all(self, namespace: str) -> None:
        """But names: without DNS nobody finds anybody."""
        resolver = Peer(
            namespace_selector=_selects({_NAMESPACE: "kube-system"}),
            pod_selector=_selects({"k8s-app": "kube-dns"}),
        )
        policy = k8s.networking.v1.NetworkPolicy(
            f"{namespace}-default",
            metadata=k8s.meta.v1.ObjectMetaArgs(name="default", namespace=namespace),
            spec=k8s.networking.v1.NetworkPolicySpecArgs(
                pod_selector=k8s.meta.v1.LabelSelectorArgs(),
                policy_types=["Ingress", "Egress"],
                egress=[Outward(to=[resolver], ports=[_port(53, "UDP"), _port(53)])],
            ),
            opts=self._options,
        )
        self.all.append(policy)

    def _to_redis(self, own: bool, endpoint: int | None) -> list[Outward]:
        """From LMCache's servers, wherever these are."""
        if own:
            return [Outward(to=[_pods(self._names.cache, "redis")], ports=[_port(REDIS_PORT)])]
        return [Outward(ports=[_port(endpoint)])] if endpoint else []

    def _node_cache(self, port: int, to_redis: list[Outward]) -> None:
        names = self._names
        self._allow(
            names.node_cache,
            "cache",
            ingress=[
                Ingress(from_=[_pods(names.models, "engine")], ports=[_port(port)]),
                self._scraped(CACHE_METRICS_PORT),
            ],
            egress=to_redis,
        )

    def _engines(self, reached: Sequence[Egress], to_redis: list[Outward]) -> None:
        names = self._names
        outward = [_outward(egress) for egress in reached]
        if self._node_cache_port:
            caches = _pods(names.node_cache, "cache")
            outward.append(Outward(to=[caches], ports=[_port(self._node_cache_port)]))
        else:
            outward += to_redis
        inward = [
            Ingress(
                from_=[_pods(names.gateway, "gateway"), _pods(names.gateway, "picker")],
                ports=[_port(ENGINE_PORT)],
            ),
            self._scraped(ENGINE_PORT, CACHE_METRICS_PORT),
        ]
        if self._apart:
            others, ports = (
                _pods(names.models, "engine"),
                [_port(NIXL_PORT), _ports(NIXL_DATA_PORTS)],
            )
            outward.append(Outward(to=[others], ports=ports))
            inward.append(Ingress(from_=[others], ports=ports))
            inward.append(
                Ingress(from_=[_pods(names.gateway, "router")], ports=[_port(ENGINE_PORT)])
            )
        self._allow(names.models, "engine", ingress=inward, egress=outward)

    def _gateway(self, source_ranges: Sequence[str], egress: list[Outward]) -> None:
        names = self._names
        # With sources preserved the load balancer's clients are seen here; empty is anybody.
        clients = [
            Peer(ip_block=k8s.networking.v1.IPBlockArgs(cidr=cidr)) for cidr in source_ranges
        ]
        self._allow(
            names.gateway,
            "gateway",
            ingress=[
                Ingress(from_=clients or None, ports=[_port(DOOR_PORT)]),
                self._scraped(STATS_PORT),
            ],
            egress=egress,
        )

    def _to_workers(self) -> list[Outward]:
        names = self._names
        return [
            Outward(to=[_pods(names.gateway, "picker")], ports=[_port(PICKER_PORT)]),
            Outward(to=[_pods(names.models, "engine")], ports=[_port(ENGINE_PORT)]),
            *self._to_routers(),
        ]

    def _to_routers(self) -> list[Outward]:
        if not self._apart:
            return []
        return [Outward(to=[_pods(self._names.gateway, "router")], ports=[_port(ROUTER_PORT)])]

    def _router(self) -> None:
        names = self._names
        self._allow(
            names.gateway,
            "router",
            ingress=[
                Ingress(
                    from_=[_pods(names.gateway, "gateway"), _pods(names.gateway, "picker")],
                    ports=[_port(ROUTER_PORT)],
                ),
                self._scraped(ROUTER_METRICS_PORT),
            ],
            egress=[Outward(to=[_pods(names.models, "engine")], ports=[_port(ENGINE_PORT)])],
        )

    def _picker(self) -> None:
        names = self._names
        self._allow(
            names.gateway,
            "picker",
            ingress=[
                Ingress(from_=[_pods(names.gateway, "gateway")], ports=[_port(PICKER_PORT)]),
                self._scraped(PICKER_HTTP_PORT),
            ],
            egress=[
                Outward(to=[_pods(names.models, "engine")], ports=[_port(ENGINE_PORT)]),
                *self._to_routers(),
            ],
        )

    def _redis(self) -> None:
        names = self._names
        users = (
            _pods(names.node_cache, "cache")
            if self._node_cache_port
            else _pods(names.models, "engine")
        )
        self._allow(
            names.cache,
            "redis",
            ingress=[Ingress(from_=[users], ports=[_port(REDIS_PORT)])],
            egress=[],
        )

    def _scraped(self, *ports: int) -> Ingress:
        prometheus = Peer(namespace_selector=_selects({_NAMESPACE: self._names.monitoring}))
        return Ingress(from_=[prometheus], ports=[_port(port) for port in ports])

    def _allow(
        self, namespace: str, app: App, ingress: list[Ingress], egress: list[Outward]
    ) -> None:
        policy = k8s.networking.v1.NetworkPolicy(
            f"{namespace}-{app}",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=app, namespace=namespace, labels=all_labels(app)
            ),
            spec=k8s.networking.v1.NetworkPolicySpecArgs(
                pod_selector=_selects(labels(app)),
                policy_types=["Ingress", "Egress"],
                ingress=ingress,
                egress=egress or None,
            ),
            opts=self._options,
        )
        self.all.append(policy)


def _selects(wanted: dict[str, str]) -> k8s.meta.v1.LabelSelectorArgs:
    return k8s.meta.v1.LabelSelectorArgs(match_labels=wanted)


def _pods(namespace: str, app: App) -> Peer:
    return Peer(
        namespace_selector=_selects({_NAMESPACE: namespace}), pod_selector=_selects(labels(app))
    )


def _port(port: int, protocol: str = "TCP") -> k8s.networking.v1.NetworkPolicyPortArgs:
    return k8s.networking.v1.NetworkPolicyPortArgs(port=port, protocol=protocol)


def _ports(first_and_last: tuple[int, int]) -> k8s.networking.v1.NetworkPolicyPortArgs:
    first, last = first_and_last
    return k8s.networking.v1.NetworkPolicyPortArgs(port=first, end_port=last, protocol="TCP")


def _outward(egress: Egress) -> Outward:
    block = k8s.networking.v1.IPBlockArgs(cidr=egress.cidr, except_=list(egress.excluding) or None)
    return Outward(to=[Peer(ip_block=block)], ports=[_port(egress.port)])
