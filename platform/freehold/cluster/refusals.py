"""What a plan cannot know but a program must: is this region, this day, this model in order?

All of it is said at once, before the first resource.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from freehold.catalog.instances import load_instances
from freehold.config import FreeholdError
from freehold.config.capacity import CapacityBlock
from freehold.config.errors import nearest
from freehold.config.target import EksTarget, ExistingVpc, NewVpc
from freehold.planning.plan import Plan

from .model_store import stored_models
from .subnets import divide

# Minor versions that EKS has GPU AMIs of (amazon-eks-ami v20260714, CHANGELOG.md: 1.30 to 1.36).
AMI_VERSIONS = tuple(f"1.{minor}" for minor in range(30, 37))
# Blocks are emptied 40 minutes before they end: less than a day is not worth a cluster.
_LEAST_LEFT = datetime.timedelta(hours=1)


def refuse(
    plan: Plan,
    settings: EksTarget,
    *,
    hub_token: bool,
    now: datetime.datetime,
    rendering: bool = False,
) -> None:
    """Raises FreeholdError with everything that stands in the way, each with its fix.

    `rendering`: nothing will be created, so what is bought later may be missing.
    """
    found = [
        *_region(settings),
        *_network(settings),
        *_types(plan, settings),
        *_blocks(plan, now),
        *([] if rendering else _not_bought(plan)),
        *_tokens(plan, hub_token),
        *_version(plan),
    ]
    if found:
        count = "1 thing" if len(found) == 1 else f"{len(found)} things"
        lines = "\n".join(f"  {line}" for line in found)
        raise FreeholdError(f"stack {plan.stack} cannot be created: {count} in the way\n{lines}")


def known_regions() -> list[str]:
    """Regions with EKS, from botocore's own endpoint data: no call is made."""
    import boto3  # 0.2 s, and only here

    session = boto3.Session()
    return [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("eks", partition)
    ]


def _region(settings: EksTarget) -> Iterator[str]:
    known = known_regions()
    if settings.region not in known:
        yield f'target.region: AWS has no EKS in "{settings.region}"{nearest(settings.region, known)}'


def _network(settings: EksTarget) -> Iterator[str]:
    if isinstance(settings.vpc, NewVpc):
        try:
            divide(settings.vpc.cidr, settings.zones)
        except FreeholdError as error:
            yield str(error)
    elif isinstance(settings.vpc, ExistingVpc):
        given, wanted = len(settings.vpc.private_subnets), len(settings.zones)
        if given != wanted:
            yield (
                f"target.vpc.private_subnets: {given} subnets for {wanted} zones: name one a zone, "
                "in the zones' order"
            )


def _types(plan: Plan, settings: EksTarget) -> Iterator[str]:
    """A region without the type; which zone of it has one, the preview asks AWS (`offerings`)."""
    for group in plan.node_groups:
        instance = load_instances()[group.instance_type]
        if settings.region not in instance.regions:
            yield (
                f"node group {group.name}: {instance.name} is not sold in {settings.region}; it is "
                f"in {', '.join(instance.regions)}"
            )


def _blocks(plan: Plan, now: datetime.datetime) -> Iterator[str]:
    for group in plan.node_groups:
        capacity = group.capacity
        if not isinstance(capacity, CapacityBlock) or capacity.ends is None:
            continue
        ends = capacity.ends if capacity.ends.tzinfo else capacity.ends.replace(tzinfo=datetime.UTC)
        if ends - now < _LEAST_LEFT:
            yield (
                f"node group {group.name}: its Capacity Block {capacity.id} ends {ends:%Y-%m-%d %H:%M} "
                "UTC, which is over or nearly so: buy the next one and put its id, zone and ends "
                "under capacity"
            )


def _not_bought(plan: Plan) -> Iterator[str]:
    for group in plan.node_groups:
        if isinstance(group.capacity, CapacityBlock) and not group.capacity.bought:
            yield (
                f"node group {group.name}: its Capacity Block must be there first: buy "
                f"{group.nodes} x {group.instance_type} (`freehold plan {plan.stack}` says what it "
                "costs), then put its id, zone and ends under capacity"
            )


def _tokens(plan: Plan, hub_token: bool) -> Iterator[str]:
    if hub_token:
        return
    for model in stored_models(plan.pools):
        if model.gated:
            yield (
                f"{model.repo} is gated: accept its licence on the hub, then "
                "`pulumi config set --secret freehold:hubToken` to a token that may read it"
            )


def _version(plan: Plan) -> Iterator[str]:
    if plan.release.kubernetes not in AMI_VERSIONS:
        yield (
            f"release: Kubernetes {plan.release.kubernetes} has no EKS GPU AMI; there are "
            f"{AMI_VERSIONS[0]} to {AMI_VERSIONS[-1]}"
        )
