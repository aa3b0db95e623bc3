"""What workloads see of an EKS cluster (targets.Target)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from freehold.config.gateway import Gateway
from freehold.planning.plan import PoolPlan

from . import iam
from .cluster import Cluster
from .gpu_node_group import GPU_TAINT
from .model_store import ModelStore, StoredModel, stored_companions, stored_model
from .nodes import SYSTEM
from .tags import tags
from .targets import (
    NODE_GROUP_LABEL,
    Egress,
    FrontDoor,
    Identity,
    ModelSource,
    Scheduling,
    StorageClasses,
)

PRIORITY = "freehold-serving"
BLOCK = "freehold-gp3"
# Pod Identity's agent answers pods on the node here (EKS user guide, "Pod Identity").
_IDENTITY_AGENT = Egress("169.254.170.23/32", 80, why="Pod Identity")
# S3's gateway endpoint leads to public addresses; the interfaces of other services and other pods
# are not among them.
_S3 = Egress(
    "0.0.0.0/0",
    443,
    excluding=("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    why="S3",
)
_ANNOTATION = "service.beta.kubernetes.io/aws-load-balancer"


class ClusterDefaults(pulumi.ComponentResource):
    """The cluster's own objects that workloads name: a StorageClass and a PriorityClass."""

    ready: tuple[pulumi.Resource, ...]

    def __init__(
        self, cluster: Cluster, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("freehold:cluster:ClusterDefaults", "defaults", {}, opts)
        child = pulumi.ResourceOptions(
            parent=self,
            provider=cluster.provider,
            depends_on=[*after],
            deleted_with=cluster.eks,
        )
        self.ready = (
            k8s.storage.v1.StorageClass(
                BLOCK,
                metadata={
                    "name": BLOCK,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                provisioner="ebs.csi.aws.com",
                parameters={
                    "type": "gp3",
                    "encrypted": "true",
                    # Its disks are found when the cluster is gone (docs/teardown.md).
                    **{
                        f"tagSpecification_{place}": f"{key}={value}"
                        for place, (key, value) in enumerate(tags(cluster.name).items(), 1)
                    },
                },
                reclaim_policy="Delete",
                allow_volume_expansion=True,
                # A volume is made in the zone that its pod got.
                volume_binding_mode="WaitForFirstConsumer",
                opts=child,
            ),
            k8s.scheduling.v1.PriorityClass(
                PRIORITY,
                metadata={"name": PRIORITY},
                value=1_000_000,
                description="Engines and gateway",
                opts=child,
            ),
        )
        self.register_outputs({})


def network_load_balancer(gateway: Gateway) -> FrontDoor:
    """A network load balancer straight to the gateway's pods.

    Connections idle for up to ten minutes: a long prompt's first token may take that long.
    """
    annotations = {
        f"{_ANNOTATION}-scheme": (
            "internet-facing" if gateway.exposure == "internet" else "internal"
        ),
        f"{_ANNOTATION}-nlb-target-type": "ip",
        f"{_ANNOTATION}-attributes": "load_balancing.cross_zone.enabled=true",
        f"{_ANNOTATION}-listener-attributes.TCP-443": "tcp.idle_timeout.seconds=600",
    }
    certificate = gateway.tls.certificate_arn if gateway.tls else None
    if certificate:
        del annotations[f"{_ANNOTATION}-listener-attributes.TCP-443"]  # TCP listeners only
        annotations |= {
            f"{_ANNOTATION}-ssl-cert": certificate,
            f"{_ANNOTATION}-ssl-ports": "443",
            f"{_ANNOTATION}-ssl-negotiation-policy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
        }
    port = 443 if gateway.tls else 80
    if port == 80:
        idle = annotations.pop(f"{_ANNOTATION}-listener-attributes.TCP-443")
        annotations[f"{_ANNOTATION}-listener-attributes.TCP-80"] = idle
    return FrontDoor(
        kind="load_balancer",
        annotations=annotations,
        class_name="service.k8s.aws/nlb",
        terminates_tls=certificate is not None,
        port=port,
    )


@dataclass(frozen=True)
class EksTarget:
    """Satisfies `targets.Target`."""

    cluster: Cluster
    aws: aws.Provider
    region: str
    store: ModelStore | None
    """None where no engine runs."""
    image_registry: pulumi.Output[str]
    front_door: FrontDoor
    imported: tuple[pulumi.Resource, ...]
    """Jobs that put the models there."""
    ready: tuple[pulumi.Resource, ...]
    """Nodes, add-ons and controllers that any workload needs."""

    priority_class: str | None = PRIORITY
    registry_mirror: str | None = None
    image_pull_secret: str | None = None
    egress: tuple[Egress, ...] = (_IDENTITY_AGENT, _S3)

    @property
    def name(self) -> str:
        return self.cluster.name

    @property
    def provider(self) -> k8s.Provider:
        return self.cluster.provider

    @property
    def storage(self) -> StorageClasses:
        return StorageClasses(block=BLOCK)

    @property
    def system(self) -> Scheduling:
        return Scheduling({NODE_GROUP_LABEL: SYSTEM})

    def scheduling(self, pool: PoolPlan) -> Scheduling:
        assert pool.placement
        return Scheduling({NODE_GROUP_LABEL: pool.placement.node_group}, (GPU_TAINT,))

    def model_source(self, pool: PoolPlan) -> ModelSource:
        model = stored_model(pool)
        if model is None:
            return ModelSource(kind="hub", uri=pool.settings.model)
        return ModelSource(
            kind="s3",
            uri=self._uri(model),
            environment={"AWS_REGION": self.region},
            companions={one.repo: self._uri(one) for one in stored_companions(pool)},
        )

    def _uri(self, model: StoredModel) -> pulumi.Output[str]:
        assert self.store
        return pulumi.Output.concat("s3://", self.store.bucket.bucket, "/", model.prefix)

    def model_reader(
        self, namespace: str, service_account: str, *, parent: pulumi.Resource
    ) -> Identity:
        assert self.store
        _, ready = iam.pod_role(
            f"{namespace}-{service_account}",
            iam.PodUser(self.cluster.cluster_name, namespace, service_account),
            pulumi.ResourceOptions(parent=parent, provider=self.aws),
            tags=tags(self.name),
            policy=self.store.reader_policy(),
        )
        return Identity(ready=(*ready, *self.imported))

    def options(
        self,
        parent: pulumi.Resource,
        *,
        owns_outside: bool = False,
        depends_on: Sequence[pulumi.Resource] = (),
    ) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(
            parent=parent,
            provider=self.provider,
            depends_on=[*self.ready, *depends_on],
            deleted_with=None if owns_outside else self.cluster.eks,
        )
