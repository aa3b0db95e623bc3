"""The network that a cluster stands in: a VPC of the stack's own, or one that exists.

Nodes are in private subnets only. Public ones hold NAT gateways and internet-facing load balancers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from freehold.config.target import EksTarget, ExistingVpc, NewVpc

from . import iam
from .subnets import ZoneSubnets, divide
from .tags import tags

# A quarter of a year: long enough to look into an incident, cheap enough to keep (working choice).
_FLOW_LOG_DAYS = 90


@dataclass(frozen=True)
class Network:
    """What the rest of the platform needs of a VPC."""

    vpc_id: pulumi.Input[str]
    private_subnets: Mapping[str, pulumi.Input[str]]
    """Zone -> id."""
    ready: tuple[pulumi.Resource, ...] = ()
    """Nodes reach the internet and AWS only when these exist."""

    def subnets_of(self, zones: Sequence[str]) -> list[pulumi.Input[str]]:
        return [self.private_subnets[zone] for zone in zones]


def network_of(stack: str, target: EksTarget, opts: pulumi.ResourceOptions) -> Network:
    """The network that the stack file asks for."""
    if isinstance(target.vpc, ExistingVpc):
        subnets = dict(zip(target.zones, target.vpc.private_subnets, strict=True))
        return Network(vpc_id=target.vpc.id, private_subnets=subnets)
    return NewNetwork(stack, target.region, target.zones, target.vpc, opts).network


class NewNetwork(pulumi.ComponentResource):
    """A VPC over the stack's zones, with a public and a private subnet in each."""

    network: Network

    def __init__(
        self,
        stack: str,
        region: str,
        zones: Sequence[str],
        settings: NewVpc,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:Network", "network", {}, opts)
        self._stack, self._region, self._settings = stack, region, settings
        self._child = pulumi.ResourceOptions(parent=self)
        self._vpc = aws.ec2.Vpc(
            "network",
            cidr_block=settings.cidr,
            enable_dns_support=True,
            enable_dns_hostnames=True,  # interface endpoints answer by their service's own name
            tags=tags(stack, stack),
            opts=self._child,
        )
        # Whoever forgets to name a security group gets this one, which lets nothing through.
        aws.ec2.DefaultSecurityGroup(
            "network-default",
            vpc_id=self._vpc.id,
            ingress=[],
            egress=[],
            tags=tags(stack, f"{stack}-default"),
            opts=self._child,
        )
        parts = divide(settings.cidr, zones)
        private = self._private_subnets(parts)
        routes = self._routes(parts, private)
        endpoints = self._endpoints(private, [table for _, table in routes.private])
        self._flow_logs()
        self.network = Network(
            vpc_id=self._vpc.id,
            private_subnets={zone: subnet.id for zone, subnet in private.items()},
            ready=(*routes.ready, *endpoints),
        )
        self.register_outputs({"vpcId": self._vpc.id})

    def _private_subnets(self, parts: Sequence[ZoneSubnets]) -> dict[str, aws.ec2.Subnet]:
        return {
            part.zone: self._subnet("private", part.zone, part.private, "internal-elb")
            for part in parts
        }

    def _subnet(self, kind: str, zone: str, cidr: str, role: str) -> aws.ec2.Subnet:
        """`role` is the tag by which the load balancer controller finds its subnets."""
        name = f"{kind}-{zone}"
        return aws.ec2.Subnet(
            name,
            vpc_id=self._vpc.id,
            availability_zone=zone,
            cidr_block=cidr,
            map_public_ip_on_launch=False,
            tags=tags(self._stack, f"{self._stack}-{name}")
            | {f"kubernetes.io/role/{role}": "1", f"kubernetes.io/cluster/{self._stack}": "shared"},
            opts=self._child,
        )

    def _routes(
        self, parts: Sequence[ZoneSubnets], private: Mapping[str, aws.ec2.Subnet]
    ) -> _Routes:
        internet = aws.ec2.InternetGateway(
            "internet", vpc_id=self._vpc.id, tags=tags(self._stack, self._stack), opts=self._child
        )
        to_internet = self._table("public")
        way_out = aws.ec2.Route(
            "public-internet",
            route_table_id=to_internet.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=internet.id,
            opts=self._child,
        )
        gateways: list[aws.ec2.NatGateway] = []
        for part in parts:
            subnet = self._subnet("public", part.zone, part.public, "elb")
            self._associate(f"public-{part.zone}", subnet, to_internet)
            if self._settings.nat == "per_zone" or not gateways:
                gateways.append(self._nat_gateway(part.zone, subnet, way_out))
        tables: list[tuple[str, aws.ec2.RouteTable]] = []
        ready: list[pulumi.Resource] = []
        for place, (zone, subnet) in enumerate(private.items()):
            table = self._table(f"private-{zone}")
            gateway = gateways[min(place, len(gateways) - 1)]
            ready.append(
                aws.ec2.Route(
                    f"private-{zone}-nat",
                    route_table_id=table.id,
                    destination_cidr_block="0.0.0.0/0",
                    nat_gateway_id=gateway.id,
                    opts=self._child,
                )
            )
            ready.append(self._associate(f"private-{zone}", subnet, table))
            tables.append((zone, table))
        return _Routes(tables, ready)

    def _table(self, name: str) -> aws.ec2.RouteTable:
        return aws.ec2.RouteTable(
            name,
            vpc_id=self._vpc.id,
            tags=tags(self._stack, f"{self._stack}-{name}"),
            opts=self._child,
        )

    def _associate(
        self, name: str, subnet: aws.ec2.Subnet, table: aws.ec2.RouteTable
    ) -> aws.ec2.RouteTableAssociation:
        return aws.ec2.RouteTableAssociation(
            name, subnet_id=subnet.id, route_table_id=table.id, opts=self._child
        )

    def _nat_gateway(
        self, zone: str, subnet: aws.ec2.Subnet, way_out: aws.ec2.Route
    ) -> aws.ec2.NatGateway:
        name = f"nat-{zone}"
        address = aws.ec2.Eip(
            name,
            domain="vpc",
            tags=tags(self._stack, f"{self._stack}-{name}"),
            opts=self._child,
        )
        return aws.ec2.NatGateway(
            name,
            subnet_id=subnet.id,
            allocation_id=address.allocation_id,
            tags=tags(self._stack, f"{self._stack}-{name}"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[way_out]),
        )

    def _endpoints(
        self, private: Mapping[str, aws.ec2.Subnet], tables: Sequence[aws.ec2.RouteTable]
    ) -> list[pulumi.Resource]:
        """S3's is free and carries the weights; the others are billed by zone and hour."""
        made: list[pulumi.Resource] = [
            aws.ec2.VpcEndpoint(
                "endpoint-s3",
                vpc_id=self._vpc.id,
                service_name=f"com.amazonaws.{self._region}.s3",
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id for table in tables],
                tags=tags(self._stack, f"{self._stack}-s3"),
                opts=self._child,
            )
        ]
        if not self._settings.interface_endpoints:
            return made
        group = self._endpoint_group()
        for service in self._settings.interface_endpoints:
            made.append(
                aws.ec2.VpcEndpoint(
                    f"endpoint-{service}",
                    vpc_id=self._vpc.id,
                    service_name=f"com.amazonaws.{self._region}.{service}",
                    vpc_endpoint_type="Interface",
                    private_dns_enabled=True,
                    subnet_ids=[subnet.id for subnet in private.values()],
                    security_group_ids=[group.id],
                    tags=tags(self._stack, f"{self._stack}-{service}"),
                    opts=self._child,
                )
            )
        return made

    def _endpoint_group(self) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            "endpoints",
            vpc_id=self._vpc.id,
            description="Interface endpoints: HTTPS from inside the VPC",
            tags=tags(self._stack, f"{self._stack}-endpoints"),
            opts=self._child,
        )
        aws.vpc.SecurityGroupIngressRule(
            "endpoints-https",
            security_group_id=group.id,
            cidr_ipv4=self._settings.cidr,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            description="HTTPS from the VPC",
            tags=tags(self._stack),
            opts=self._child,
        )
        return group

    def _flow_logs(self) -> None:
        logs = aws.cloudwatch.LogGroup(
            "flow-logs",
            name=f"/freehold/{self._stack}/flow-logs",
            retention_in_days=_FLOW_LOG_DAYS,
            tags=tags(self._stack),
            opts=self._child,
        )
        role, _ = iam.service_role(
            "flow-logs",
            "vpc-flow-logs.amazonaws.com",
            [],
            self._child,
            tags=tags(self._stack),
        )
        written = aws.iam.RolePolicy(
            "flow-logs",
            role=role.name,
            policy=logs.arn.apply(_may_write_log),
            opts=self._child,
        )
        aws.ec2.FlowLog(
            "flow-logs",
            vpc_id=self._vpc.id,
            traffic_type="ALL",
            log_destination=logs.arn,
            iam_role_arn=role.arn,
            tags=tags(self._stack, self._stack),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[written]),
        )


@dataclass(frozen=True)
class _Routes:
    private: list[tuple[str, aws.ec2.RouteTable]]
    ready: list[pulumi.Resource]


def _may_write_log(log_group: str) -> str:
    """Streams are made and written; the group is there already."""
    return iam.document(
        [
            iam.allow(
                ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"],
                [log_group, f"{log_group}:*"],
            )
        ]
    )
