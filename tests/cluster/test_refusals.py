"""Wrong input is refused before the first resource, all of it at once, each with its fix."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from program.programs import BLOCK, now, plan_of, tree

from freehold.cluster.refusals import refuse
from freehold.config import FreeholdError
from freehold.config.inheritance import merge
from freehold.config.target import EksTarget
from freehold.planning.plan import Plan


def refused(
    stack_tree: dict[str, Any],
    *,
    token: bool = True,
    at: datetime.datetime | None = None,
    **target: Any,
) -> str:
    plan = plan_of(stack_tree)
    settings = plan.target
    assert isinstance(settings, EksTarget)
    settings = settings.model_copy(update=target)
    with pytest.raises(FreeholdError) as found:
        refuse(plan, settings, hub_token=token, now=at or now())
    return str(found.value)


def passes(plan: Plan, *, token: bool = False) -> None:
    assert isinstance(plan.target, EksTarget)
    refuse(plan, plan.target, hub_token=token, now=now())


GATED, OPEN = tree("g6e.2xlarge"), tree("p5en.48xlarge")


def test_what_is_right_passes() -> None:
    passes(plan_of(OPEN))
    passes(plan_of(GATED), token=True)
    passes(plan_of(tree("p5e.48xlarge", BLOCK)))


def test_an_unknown_region_names_the_nearest() -> None:
    assert 'did you mean "eu-central-1"' in refused(OPEN, region="eu-centrall-1")


def test_a_region_without_the_machine_names_those_with_it() -> None:
    said = refused(OPEN, region="eu-north-1")
    assert "p5en.48xlarge is not sold in eu-north-1" in said and "us-west-2" in said


def test_a_network_that_no_vpc_can_have() -> None:
    vpc = merge(OPEN, {"target": {"vpc": {"kind": "new", "cidr": "172.17.0.0/16"}}})
    assert "target.vpc.cidr" in refused(vpc)


def test_too_few_subnets_of_an_existing_vpc() -> None:
    subnets = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
    existing = {"kind": "existing", "id": "vpc-0123456789abcdef0", "private_subnets": subnets}
    assert "2 subnets for 3 zones" in refused(merge(OPEN, {"target": {"vpc": existing}}))


def test_an_expired_block_says_what_to_do() -> None:
    late = datetime.datetime(2099, 3, 1, 11, 0, tzinfo=datetime.UTC)
    said = refused(tree("p5e.48xlarge", BLOCK), at=late)
    assert BLOCK["id"] in said and "buy the next one" in said


def test_a_block_that_is_not_bought_says_what_to_buy() -> None:
    said = refused(tree("p5e.48xlarge", {"kind": "capacity_block"}))
    assert "buy 1 x p5e.48xlarge" in said


def test_a_gated_model_without_a_token_names_the_command() -> None:
    said = refused(GATED, token=False)
    assert "is gated" in said and "pulumi config set --secret freehold:hubToken" in said


def test_a_kubernetes_version_without_an_ami() -> None:
    plan = plan_of(OPEN)
    plan = dataclasses.replace(plan, release=dataclasses.replace(plan.release, kubernetes="1.29"))
    assert isinstance(plan.target, EksTarget)
    with pytest.raises(FreeholdError, match=r"1.29 has no EKS GPU AMI; there are 1.30 to 1.36"):
        refuse(plan, plan.target, hub_token=True, now=now())


def test_everything_is_said_at_once() -> None:
    assert refused(GATED, token=False, region="us-esat-2").count("\n") >= 3
