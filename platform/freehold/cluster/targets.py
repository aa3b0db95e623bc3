"""What workloads need from a cluster, whoever runs it: the contract between `cluster` and `serving`.

`freehold.serving` reads a `Target` and nothing else of the cluster: no AWS type, no kubeconfig, no
stack file. `EksTarget` (eks_target.py) and `ExistingTarget` (existing_target.py) are its two makers.

Every value that decides the shape of a program (names, counts, labels) is plain; only what the
cloud alone knows is a `pulumi.Input`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pulumi
import pulumi_kubernetes as k8s

from freehold.planning.plan import PoolPlan

PodSecurity = Literal["restricted", "baseline", "privileged"]
"""Levels of Kubernetes' Pod Security admission."""

NODE_GROUP_LABEL = "freehold/node-group"
"""On every node: the plan's node group, or `system`."""


@dataclass(frozen=True)
class Toleration:
    """A taint of a node that a pod does not mind; any value when `value` is None."""

    key: str
    value: str | None = None
    effect: Literal["NoSchedule", "NoExecute"] = "NoSchedule"

    def to_kubernetes(self) -> dict[str, str]:
        operator = "Exists" if self.value is None else "Equal"
        value = {} if self.value is None else {"value": self.value}
        return {"key": self.key, "operator": operator, **value, "effect": self.effect}


@dataclass(frozen=True)
class Scheduling:
    """Where pods of one kind run, and only there."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...] = ()
    runtime_class: str | None = None
    """None: the node's default runtime already gives GPUs to containers that ask for them."""
    gpu_resource: str = "nvidia.com/gpu"
    """What a pod asks for, one for each of its ranks; where pools share a GPU the device plugin
    offers it several times over, so a pod asks for one there too."""


@dataclass(frozen=True)
class ModelSource:
    """Where the engine of one pool reads its weights. Nothing but this is needed at start."""

    kind: Literal["s3", "pvc", "hub"]
    uri: pulumi.Input[str]
    """`s3`: s3://bucket/prefix, for vLLM's `runai_streamer`; `pvc`: the folder inside the claim;
    `hub`: the repository."""
    claim: str | None = None
    """`pvc` only: the claim, in the engines' namespace, mounted read-only."""
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """For the engine's container, such as the region of the bucket."""
    companions: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """What `uri` is for the model, for draft models and adapters: by what the stack file calls
    them. Serving refuses those that are missing here and lie on the hub."""


@dataclass(frozen=True)
class Egress:
    """An address that a network policy must let pods reach."""

    cidr: str
    port: int
    excluding: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Identity:
    """What a service account and its pods get so that they may read the model store."""

    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    """For the ServiceAccount."""
    environment_from: tuple[str, ...] = ()
    """Names of Secrets in the pods' namespace that become environment variables."""
    ready: tuple[pulumi.Resource, ...] = ()
    """Pods depend on these: credentials are handed out when a pod is created, not later, and the
    weights must be there by then."""


@dataclass(frozen=True)
class FrontDoor:
    """How clients outside the cluster reach the gateway."""

    kind: Literal["load_balancer", "ingress"]
    annotations: Mapping[str, pulumi.Input[str]]
    """Of the Service (`load_balancer`) or of the Ingress."""
    class_name: str | None
    """`loadBalancerClass` or `ingressClassName`; None leaves it to the cluster's default."""
    terminates_tls: bool
    """True: the load balancer holds the certificate and speaks plain HTTP to the gateway.
    False with `gateway.tls.secret`: the gateway (or the Ingress) holds it."""
    port: int
    """What clients connect to."""
    source_ranges: tuple[str, ...] = ()
    """Networks that may connect; anybody who can reach it when empty."""


@dataclass(frozen=True)
class StorageClasses:
    """Names of StorageClasses."""

    block: str
    """Volumes of one node at a time (Prometheus, Redis); deleted with their claim."""


class Target(Protocol):
    """A cluster that workloads can land on."""

    @property
    def name(self) -> str:
        """Of the cluster, in plain text."""
        ...

    @property
    def provider(self) -> k8s.Provider: ...

    @property
    def storage(self) -> StorageClasses: ...

    @property
    def front_door(self) -> FrontDoor: ...

    @property
    def system(self) -> Scheduling:
        """For pods without GPUs: gateway, Redis, Prometheus, controllers."""
        ...

    @property
    def priority_class(self) -> str | None:
        """Engines and gateway go before whatever else runs on their nodes."""
        ...

    @property
    def registry_mirror(self) -> str | None:
        """Host and path in front of every image; `image_of` applies it."""
        ...

    @property
    def image_pull_secret(self) -> str | None:
        """Secret for that registry, in every namespace; None where nodes may pull anyway."""
        ...

    @property
    def image_registry(self) -> pulumi.Input[str]:
        """Host and path of the images that Freehold builds itself (engine, gateway), such as the
        account's ECR; serving adds `/engine:<tag>`."""
        ...

    @property
    def egress(self) -> tuple[Egress, ...]:
        """What engines must reach outside their namespace, DNS aside, to get identity and weights."""
        ...

    def scheduling(self, pool: PoolPlan) -> Scheduling:
        """Where the replicas of a pool run."""
        ...

    def model_source(self, pool: PoolPlan) -> ModelSource:
        """Where the replicas of a pool read their weights."""
        ...

    def model_reader(
        self, namespace: str, service_account: str, *, parent: pulumi.Resource
    ) -> Identity:
        """Let a service account read the model store, and nothing else."""
        ...

    def options(
        self,
        parent: pulumi.Resource,
        *,
        owns_outside: bool = False,
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> pulumi.ResourceOptions:
        """Options of every Kubernetes object: provider, parent, order, and how it goes.

        `owns_outside`: something outside the cluster exists because of the object (a Service's load
        balancer, a claim's disk, and a pod that still uses that claim). Such an object is deleted
        for real, while the controllers that clean up after it still run. All others vanish with
        the cluster and are not deleted one by one.
        """
        ...


def image_of(target: Target, reference: str) -> str:
    """An image's reference behind the target's mirror."""
    if target.registry_mirror is None:
        return reference
    return f"{target.registry_mirror.rstrip('/')}/{reference}"


def pod_security_labels(level: PodSecurity) -> dict[str, str]:
    """Enforced, audited and warned of alike; the version is the cluster's own."""
    return {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "audit", "warn")}
