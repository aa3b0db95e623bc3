"""What workloads see of a cluster that runs already (targets.Target)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from freehold.config.gateway import Gateway
from freehold.config.target import ExistingCluster
from freehold.planning.plan import PoolPlan

from .model_companions import companions
from .targets import (
    NODE_GROUP_LABEL,
    Egress,
    FrontDoor,
    Identity,
    ModelSource,
    Scheduling,
    StorageClasses,
    Toleration,
)

# The hub, or a bucket of the house: their addresses are not known here. MinIO and Ceph without TLS
# listen on 9000 and 7480.
_HUB_PORTS, _STORE_PORTS = (443,), (443, 9000, 7480)
STORE_SECRET = "model-store"
"""Secret in the engines' namespace that the cluster's keeper makes: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL of a store, or HF_TOKEN for gated models of the hub."""
# Where our own images are looked for when no registry is named: on the node itself, which nobody else
# can push to.
_NO_REGISTRY = "localhost/freehold"
# What ingress-nginx needs for streams, long answers and large bodies; others have their own.
_NGINX = "nginx.ingress.kubernetes.io"


@dataclass(frozen=True)
class ExistingTarget:
    """Nothing is created but what workloads bring: the cluster belongs to somebody."""

    name: str
    settings: ExistingCluster
    gateway: Gateway
    provider: k8s.Provider

    @property
    def storage(self) -> StorageClasses:
        return StorageClasses(block=self.settings.storage_class)

    @property
    def front_door(self) -> FrontDoor:
        ingress = self.settings.ingress_class
        tls = self.gateway.tls is not None
        return FrontDoor(
            kind="ingress" if ingress else "load_balancer",
            annotations=self._annotations(),
            class_name=ingress,
            terminates_tls=tls and ingress is not None,
            port=443 if tls else 80,
        )

    def _annotations(self) -> dict[str, str]:
        if "nginx" not in (self.settings.ingress_class or ""):
            return {}
        return {
            f"{_NGINX}/proxy-buffering": "off",
            f"{_NGINX}/proxy-request-buffering": "off",
            f"{_NGINX}/proxy-read-timeout": "3600",
            f"{_NGINX}/proxy-send-timeout": "3600",
            f"{_NGINX}/proxy-body-size": f"{self.gateway.max_body_mib}m",
        }

    @property
    def system(self) -> Scheduling:
        """Wherever there is room: a single machine has to hold all."""
        return Scheduling({})

    @property
    def priority_class(self) -> str | None:
        return None

    @property
    def registry_mirror(self) -> str | None:
        return self.settings.registry_mirror

    @property
    def image_pull_secret(self) -> str | None:
        return self.settings.image_pull_secret

    @property
    def image_registry(self) -> pulumi.Input[str]:
        return self.settings.registry_mirror or _NO_REGISTRY

    @property
    def egress(self) -> tuple[Egress, ...]:
        source = self.settings.model_source
        if source.startswith("pvc://"):
            return ()
        ports = _STORE_PORTS if source.startswith("s3://") else _HUB_PORTS
        return tuple(Egress("0.0.0.0/0", port, why="models") for port in ports)

    def scheduling(self, pool: PoolPlan) -> Scheduling:
        """Machines carry the name that the stack file gives to their kind as a label."""
        assert pool.placement is not None
        return Scheduling(
            {NODE_GROUP_LABEL: pool.placement.instance_type},
            (Toleration("nvidia.com/gpu"),),
            self.settings.runtime_class,
        )

    def model_source(self, pool: PoolPlan) -> ModelSource:
        """Below an s3:// or pvc:// source each repository lies at `<repository>/<revision>`."""
        source, model = self.settings.model_source, pool.settings
        if source == "hub":
            return ModelSource(kind="hub", uri=model.model)
        claim, _, folder = source.partition("://")[2].partition("/")
        base = source.rstrip("/") if source.startswith("s3://") else folder.strip("/")
        beside = {name: f"{base}/{name}/main".lstrip("/") for name in companions(pool)}
        uri = f"{base}/{model.model}/{model.revision or 'main'}".lstrip("/")
        if source.startswith("s3://"):
            return ModelSource(kind="s3", uri=uri, companions=beside)
        return ModelSource(kind="pvc", uri=uri, claim=claim, companions=beside)

    def model_reader(
        self, namespace: str, service_account: str, *, parent: pulumi.Resource
    ) -> Identity:
        by_volume = self.settings.model_source.startswith("pvc://")
        return Identity(environment_from=() if by_volume else (STORE_SECRET,))

    def options(
        self,
        parent: pulumi.Resource,
        *,
        owns_outside: bool = False,
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=parent, provider=self.provider, depends_on=[*depends_on]
        )


class ExistingPlatform(pulumi.ComponentResource):
    """The way to a cluster that exists."""

    target: ExistingTarget

    def __init__(
        self,
        stack: str,
        settings: ExistingCluster,
        gateway: Gateway,
        kubeconfig: pulumi.Output[str] | None,
    ) -> None:
        super().__init__("freehold:cluster:ExistingPlatform", stack)
        provider = k8s.Provider(
            "kubernetes",
            # None: the kubeconfig of whoever runs Pulumi.
            kubeconfig=kubeconfig,
            context=settings.context,
            cluster_identifier=settings.context,
            enable_server_side_apply=True,
            # Pods start anew by a checksum; taking a ConfigMap away first would leave them without.
            enable_config_map_mutable=True,
            enable_secret_mutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.target = ExistingTarget(stack, settings, gateway, provider)
        self.register_outputs({})
