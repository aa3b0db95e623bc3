"""What the gateway stands in front of: plain values, no Envoy and no parsing."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from freehold.config.errors import FreeholdError

Role = Literal["generate", "embed", "rerank"]
Policy = Literal["prefix", "session", "least_request", "round_robin"]
ENGINE_HEALTH = "/health"
# 200 while there is a worker of each kind; its own /health is 503 as soon as one of many is away
# (vllm-router 0.1.17, seen 2026-11-24).
ROUTER_HEALTH = "/readiness"
Address = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True)
class Worker:
    """One replica of a pool. `name` is what a client may put in `x-freehold-worker`."""

    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)


@dataclass(frozen=True)
class Dns:
    """Workers found by name, as behind a headless Kubernetes service: one record a worker."""

    hostname: str
    port: int


Credentials = Literal["own", "pod_identity"]
"""AWS credentials of whoever started the gateway (environment, `~/.aws/credentials`), or of its pod."""


@dataclass(frozen=True)
class Hosted:
    """A model that Bedrock serves: nothing of ours runs, requests are signed and sent there."""

    model: str
    """What Bedrock calls it: takes the place of the body's `model`."""
    region: str
    """That the signature is for."""
    host: str
    trusted_ca: str
    """PEM file, as the gateway sees it, of the authorities that may vouch for `host`."""
    port: int = 443
    credentials: Credentials = "own"

    @property
    def authority(self) -> str:
        return self.host if self.port == 443 else join_address(self.host, self.port)


@dataclass(frozen=True)
class Rollout:
    """A share of the requests that ask for the model of pool `of`."""

    of: str
    percent: float


@dataclass(frozen=True)
class Pool:
    """One served model and its workers: given as a list, found by DNS, or somebody else's."""

    name: str
    role: Role
    models: tuple[str, ...]
    """Names the workers answer to: the pool's own first, then its adapters (LoRA)."""
    workers: tuple[Worker, ...] = ()
    policy: Policy = "prefix"
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names clients may put in `model`, each with the served name it stands for."""
    discovery: Dns | None = None
    hosted: Hosted | None = None
    start_seconds: int | None = None
    """With no worker at all, what Retry-After says: how long a first one takes to answer."""
    rollout: Rollout | None = None
    """Of another pool, whose requests come here in part."""
    health_path: str = ENGINE_HEALTH
    """Answers 200 while a worker can take requests."""

    @property
    def names(self) -> tuple[str, ...]:
        """Everything a client may put in `model` to reach this pool."""
        return (*self.models, *self.aliases)


@dataclass(frozen=True)
class ApiKey:
    """A tenant's Bearer key: what it may use and how much."""

    secret: str = field(repr=False)
    tenant: str = "default"
    models: tuple[str, ...] | None = None
    """Names the tenant may put in `model`; every one when None."""
    requests_per_minute: int | None = None
    cache_group: str | None = None
    """Tenants of the same group share their prompt caches, where these are sealed."""


@dataclass(frozen=True)
class Certificate:
    """Files in PEM, read when Envoy starts."""

    chain: str
    key: str


@dataclass(frozen=True)
class Gateway:
    """One door. `port` is the only one that clients reach; the rest listen on loopback."""

    port: int
    admin_port: int
    pools: tuple[Pool, ...]
    keys: tuple[ApiKey, ...]
    host: str = "127.0.0.1"
    picker: Address | None = None
    """Where the endpoint picker listens (gRPC); None leaves the choice of worker to Envoy."""
    picker_http: Address | None = None
    """Its health and metrics; the next port after `picker` unless given."""
    picker_standby: Address | None = None
    """A second picker, asked while the first fails its health checks. One at a time: each learns what
    the workers hold from the requests that it places."""
    stats: Address | None = None
    """A second listener with nothing but `/ready` and `/stats/prometheus` (for a cluster, where
    Prometheus and probes come from outside the pod and the admin port stays on loopback)."""
    certificate: Certificate | None = None
    """The door speaks TLS with it; plain HTTP when None."""
    drainable: bool = False
    """The admin port takes `/drain_listeners`, for a pod that is told to stop."""
    replicas: int = 1
    """Gateways that share the load: each enforces its share of a tenant's limit."""
    max_body_bytes: int = 32 * 2**20
    sealed: bool = False
    """Each tenant has its own prompt cache in the engines: see `sealing`."""
    access_log: str = "/dev/stdout"

    def __post_init__(self) -> None:
        if not self.keys:
            raise FreeholdError("the gateway has no key: nothing could be asked of it; give one")
        if not self.pools:
            raise FreeholdError("the gateway has no pool to stand in front of; give at least one")
        _unique("the gateway key", [key.secret for key in self.keys], shown=False)
        _unique("the tenant", [key.tenant for key in self.keys])
        _unique("the model name", [name for pool in self.pools for name in pool.names])
        for pool in self.pools:
            if sum(map(bool, (pool.workers, pool.discovery, pool.hosted))) != 1:
                raise FreeholdError(
                    f"pool {pool.name}: give one of workers, a DNS name to find them by, and a "
                    "model that Bedrock serves"
                )

    def newcomer(self, pool: Pool) -> Pool | None:
        """The pool that takes a share of this one's requests."""
        taking = (p for p in self.pools if p.rollout and p.rollout.of == pool.name)
        return next(taking, None)

    def picker_health(self) -> Address | None:
        if self.picker is None:
            return None
        return self.picker_http or (self.picker[0], self.picker[1] + 1)


def join_address(host: str, port: int) -> str:
    """`host:port` as Envoy writes it, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unique(what: str, values: list[str], shown: bool = True) -> None:
    for value in values:
        if values.count(value) > 1:
            raise FreeholdError(f"{what} {value if shown else '(hidden)'} is there twice")
