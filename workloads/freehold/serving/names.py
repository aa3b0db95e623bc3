"""Names that objects of several components share: namespaces, labels, ports, addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from freehold.planning.plan_types import Part

App = Literal["engine", "cache", "redis", "gateway", "picker", "router"]
"""What a pod runs: its label `app.kubernetes.io/name`."""

# Ports inside pods; each pod has its own address, so they never meet.
ENGINE_PORT = 8000
CACHE_HTTP_PORT = 8085  # LMCache's health
CACHE_METRICS_PORT = 9095
REDIS_PORT = 6379
DOOR_PORT = 8080
ADMIN_PORT = 9901  # on loopback
STATS_PORT = 9902  # nothing but /ready and /stats/prometheus
PICKER_PORT = 9002
PICKER_HTTP_PORT = 9003
ROUTER_PORT = 8080
ROUTER_METRICS_PORT = 29000
NIXL_PORT = 5600  # where a worker tells others how to fetch its KV cache
NIXL_DATA_PORTS = (5610, 5709)  # first and last of those that the KV cache itself goes over
PROMETHEUS_PORT = 9090

# Written with a dot at the end: a complete name, looked up once and not in five search domains.
_DOMAIN = "svc.cluster.local."


@dataclass(frozen=True)
class Names:
    """Where the parts of one stack live. The stack's name is in each namespace, so that several stacks
    share a cluster."""

    stack: str

    @property
    def models(self) -> str:
        """Engines and their cache sidecars."""
        return self._namespace("models")

    @property
    def cache(self) -> str:
        """Redis."""
        return self._namespace("cache")

    @property
    def node_cache(self) -> str:
        """LMCache's servers, where each node has one instead of each engine."""
        return self._namespace("node-cache")

    @property
    def gateway(self) -> str:
        """Envoy and the pickers."""
        return self._namespace("gateway")

    @property
    def monitoring(self) -> str:
        """Prometheus, which may scrape all of these."""
        return self._namespace("monitoring")

    @property
    def prometheus_url(self) -> str:
        return f"http://prometheus.{self.monitoring}.svc:{PROMETHEUS_PORT}"

    def engine_host(self, pool: str) -> str:
        """The headless Service of a pool: one record a ready worker."""
        return f"{pool}.{self.models}.{_DOMAIN}"

    def worker_hosts(self, pool: str, part: Part, replicas: int) -> list[str]:
        """Each worker of a part of a pool by a name that it keeps."""
        service = f"{pool}-{part}"
        return [f"{service}-{n}.{service}.{self.models}.{_DOMAIN}" for n in range(replicas)]

    def router_host(self, pool: str) -> str:
        """The headless Service of a pool's routers, where prefill and decode are apart."""
        return f"{pool}-router.{self.gateway}.{_DOMAIN}"

    def node_cache_host(self) -> str:
        """Leads to the server of the caller's own node."""
        return f"cache.{self.node_cache}.{_DOMAIN}"

    def redis_host(self) -> str:
        return f"redis.{self.cache}.{_DOMAIN}"

    def picker_host(self, which: str) -> str:
        return f"picker-{which}.{self.gateway}.{_DOMAIN}"

    def _namespace(self, part: str) -> str:
        stack = re.sub(r"[^a-z0-9]+", "-", self.stack.lower()).strip("-")
        return f"{stack}-{part}"


def labels(app: App, instance: str | None = None, part: Part | None = None) -> dict[str, str]:
    """Labels that select the pods of an app, of one instance (a pool) of it, or of a part of that."""
    found: dict[str, str] = {"app.kubernetes.io/name": app}
    if instance is not None:
        found["app.kubernetes.io/instance"] = instance
    if part is not None:
        found["app.kubernetes.io/component"] = part
    return found


def all_labels(app: App, instance: str | None = None, part: Part | None = None) -> dict[str, str]:
    """Labels that an object carries."""
    return {**labels(app, instance, part), "app.kubernetes.io/part-of": "freehold"}
