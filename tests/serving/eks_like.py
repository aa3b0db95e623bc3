"""A target with everything that an EKS cluster has, and no cloud: for tests of serving alone."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from freehold.cluster.model_companions import companions
from freehold.cluster.targets import (
    NODE_GROUP_LABEL,
    Egress,
    FrontDoor,
    Identity,
    ModelSource,
    Scheduling,
    StorageClasses,
    Toleration,
)
from freehold.planning.plan import PoolPlan


class EksLike:
    """`bucket` and `registry` are known to the cloud alone: Outputs, unknown in a preview."""

    name = "test"
    storage = StorageClasses(block="gp3")
    priority_class: str | None = "freehold"
    registry_mirror: str | None = None
    image_pull_secret: str | None = None
    egress = (Egress("10.40.0.0/16", 443, why="S3 and STS"), Egress("169.254.170.23/32", 80))

    def __init__(self, *, terminates_tls: bool = True) -> None:
        self.provider = k8s.Provider("cluster", kubeconfig="{}")
        self.bucket = self.provider.id.apply(lambda _: "models-1234")
        self.image_registry = self.provider.id.apply(
            lambda _: "123456789012.dkr.ecr.us-east-2.amazonaws.com/freehold"
        )
        self._terminates_tls = terminates_tls

    @property
    def front_door(self) -> FrontDoor:
        return FrontDoor(
            kind="load_balancer",
            annotations={"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
            class_name="service.k8s.aws/nlb",
            terminates_tls=self._terminates_tls,
            port=80,
            source_ranges=("10.0.0.0/8",),
        )

    @property
    def system(self) -> Scheduling:
        return Scheduling({NODE_GROUP_LABEL: "system"})

    def scheduling(self, pool: PoolPlan) -> Scheduling:
        assert pool.placement is not None
        return Scheduling(
            {NODE_GROUP_LABEL: pool.placement.node_group}, (Toleration("nvidia.com/gpu", "true"),)
        )

    def model_source(self, pool: PoolPlan) -> ModelSource:
        return ModelSource(
            kind="s3",
            uri=self._uri(pool.settings.model),
            environment={"AWS_REGION": "us-east-2"},
            companions={name: self._uri(name) for name in companions(pool)},
        )

    def _uri(self, model: str) -> pulumi.Output[str]:
        return self.bucket.apply(lambda bucket: f"s3://{bucket}/{model}")

    def model_reader(
        self, namespace: str, service_account: str, *, parent: pulumi.Resource
    ) -> Identity:
        return Identity()

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
            depends_on=list(depends_on),
            deleted_with=None if owns_outside else self.provider,
        )
