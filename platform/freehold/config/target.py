"""Where a stack lands: this machine, an EKS cluster of its own, or a cluster that exists already."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from .base import Model


class LocalTarget(Model):
    """This machine: real processes, no container engine."""

    kind: Literal["local"]
    engine: Literal["vllm", "simulated"] = "vllm"


class Endpoint(Model):
    """Who reaches the cluster's API. Nodes always use its private side."""

    public_cidrs: list[str] = Field(
        default=[], description="Networks that reach the public endpoint, such as an office's."
    )
    runner: Literal["in-vpc"] | None = Field(
        default=None, description="No public endpoint: commands run inside the VPC."
    )

    @field_validator("public_cidrs")
    @classmethod
    def _not_the_world(cls, cidrs: list[str]) -> list[str]:
        for cidr in cidrs:
            try:
                network = ipaddress.ip_network(cidr)
            except ValueError as error:
                raise ValueError(f"{cidr} is no network: {error}") from None
            if network.prefixlen == 0:
                raise ValueError(
                    f"{cidr} is the whole internet: name the networks that need the API, "
                    "or leave public_cidrs out and set runner: in-vpc"
                )
        return cidrs

    @model_validator(mode="after")
    def _one_way_in(self) -> Endpoint:
        if bool(self.public_cidrs) == bool(self.runner):
            raise ValueError(
                "say one of public_cidrs: [a network] and runner: in-vpc, so that exactly one way "
                "leads to the cluster's API"
            )
        return self


# Services that nodes and pods without a way to the internet call; S3's gateway endpoint is free
# and always made (the EKS guide's list for private clusters, read 2026-11-23).
InterfaceEndpoint = Literal[
    "autoscaling",
    "ec2",
    "ecr.api",
    "ecr.dkr",
    "eks",
    "eks-auth",
    "elasticloadbalancing",
    "kms",
    "logs",
    "secretsmanager",
    "ssm",
    "sts",
]


class NewVpc(Model):
    """A VPC of the stack's own."""

    kind: Literal["new"] = "new"
    cidr: str = "10.40.0.0/16"
    nat: Literal["one", "per_zone"] = Field(
        default="one", description="NAT gateways: one for all zones, or one in each."
    )
    interface_endpoints: list[InterfaceEndpoint] = Field(
        default=[], description="AWS services reached without the NAT gateway; billed by zone."
    )


class ExistingVpc(Model):
    """A VPC that somebody else keeps; it needs its own way to ECR, S3 and STS."""

    kind: Literal["existing"]
    id: str = Field(pattern=r"^vpc-[0-9a-f]{8,17}$")
    private_subnets: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")]] = Field(
        min_length=2, description="One in each zone of the target, in the zones' order."
    )


class SystemNodes(Model):
    """Nodes without GPUs: gateway, Prometheus, controllers."""

    instance_type: str = "m7i.large"
    nodes: int = Field(default=2, ge=2, le=9, description="Two, so that one may go.")


class EksTarget(Model):
    """An EKS cluster of the stack's own. The Kubernetes version is the release's."""

    kind: Literal["eks"]
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")
    zones: list[Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9][a-z]$")]] = Field(
        min_length=2, max_length=6, description="EKS wants at least two."
    )
    endpoint: Endpoint
    admins: list[Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/")]] = (
        Field(default=[], description="IAM roles that may do everything in the cluster.")
    )
    deletion_protection: bool = Field(
        default=True, description="EKS refuses to delete the cluster: false before a teardown."
    )
    alarm_email: str | None = Field(
        default=None,
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="Who hears that a Capacity Block ends.",
    )
    vpc: Annotated[NewVpc | ExistingVpc, Field(discriminator="kind")] = NewVpc()
    system: SystemNodes = SystemNodes()

    @model_validator(mode="after")
    def _zones_of_the_region(self) -> EksTarget:
        for zone in self.zones:
            if zone[:-1] != self.region:
                raise ValueError(
                    f'zones: "{zone}" is no zone of {self.region}: such as {self.region}a'
                )
        if len(set(self.zones)) != len(self.zones):
            raise ValueError(f"zones: one is named twice: {', '.join(self.zones)}")
        return self


class GpuNodes(Model):
    """Machines with GPUs that a cluster has already; `name` is what placements call them."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9.-]{0,38}[a-z0-9])?$")
    gpu: str = Field(description="A GPU of the catalog: L40S, H100, ...")
    gpus: int = Field(ge=1, le=16, description="GPUs a machine.")
    count: int = Field(ge=1, description="Machines.")
    vcpu: int = Field(ge=2)
    ram_gib: float = Field(gt=0)
    nvme_gb: float = Field(default=0, ge=0)
    network_gbps: float = Field(default=10, gt=0)
    usd_per_hour: float = Field(
        default=0.0, ge=0, description="What an hour of one costs you; 0 leaves it out of the sum."
    )


class ExistingCluster(Model):
    """A Kubernetes cluster that runs already, on machines you own or rent."""

    kind: Literal["existing"]
    context: str = Field(min_length=1, description="Context of the kubeconfig.")
    nodes: list[GpuNodes] = Field(min_length=1)
    storage_class: str = Field(min_length=1)
    ingress_class: str | None = Field(default=None, description="None: a LoadBalancer service.")
    runtime_class: str | None = Field(
        default=None, description='RuntimeClass of GPU pods, such as "nvidia".'
    )
    already_runs: list[Literal["prometheus-operator", "node-exporter"]] = Field(
        default=[], description="What watches the cluster already, and must not be there twice."
    )
    registry_mirror: str | None = Field(
        default=None, description="Host and path that stand in front of every image."
    )
    image_pull_secret: str | None = Field(
        default=None,
        min_length=1,
        description="Secret for the registry, which you make in each of the stack's namespaces.",
    )
    model_source: str = Field(
        default="hub", description='"hub", s3://bucket/prefix, or pvc://claim/path.'
    )

    @field_validator("model_source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source != "hub" and not source.startswith(("s3://", "pvc://")):
            raise ValueError('must be "hub", s3://bucket/prefix, or pvc://claim/path')
        return source
