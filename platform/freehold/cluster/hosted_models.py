"""Who may ask Bedrock for the stack's models, and under which names the bill knows them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from freehold.planning.plan import PoolPlan

from . import iam
from .eks_target import EksTarget
from .tags import tags

_INVOKE = ("bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream")
"""What Chat Completions needs at bedrock-runtime (Bedrock user guide, "Making inference requests", read
2026-11-24), less all that lists, reads or deletes."""
_LONGEST_NAME = 64


class HostedModels(pulumi.ComponentResource):
    """An application inference profile a pool, tagged for the bill, and a role that may use these alone.

    The gateway calls models by their own id, as the OpenAI-compatible endpoint wants it; its cost is told
    apart by the role's tags. The profiles are for programs that call Bedrock's own operations.
    """

    profiles: Mapping[str, pulumi.Output[str]]
    """ARN by pool."""
    role: aws.iam.Role
    ready: tuple[pulumi.Resource, ...]
    """Pods that use the role depend on these."""

    def __init__(
        self,
        stack: str,
        pools: Sequence[PoolPlan],
        cluster: EksTarget | None,
        namespace: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        """`namespace` of `cluster` is the gateway's, whose pods get the role; without a cluster it is for
        those of the account who may assume it."""
        super().__init__("freehold:cluster:HostedModels", "hosted-models", {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.profiles = {pool.name: _profile(stack, pool, child).arn for pool in pools}
        arns = pulumi.Output.all(*self.profiles.values())
        policy = arns.apply(lambda known: _invoke([*map(_model_arn, pools), *known]))
        if cluster:
            user = iam.PodUser(cluster.cluster.cluster_name, namespace, "gateway")
            # In the cluster's region, which need not be Bedrock's.
            there = pulumi.ResourceOptions(parent=self, provider=cluster.aws)
            self.role, ready = iam.pod_role(
                "bedrock-caller", user, there, tags=tags(stack), policy=policy
            )
        else:
            self.role = aws.iam.Role(
                "bedrock-caller",
                path=iam.PATH,
                assume_role_policy=arns.apply(lambda known: _own_account(known[0])),
                tags=tags(stack),
                opts=child,
            )
            attached = aws.iam.RolePolicy(
                "bedrock-caller", role=self.role.name, policy=policy, opts=child
            )
            ready = [self.role, attached]
        self.ready = tuple(ready)
        self.register_outputs({})


def _profile(
    stack: str, pool: PoolPlan, opts: pulumi.ResourceOptions
) -> aws.bedrock.InferenceProfile:
    return aws.bedrock.InferenceProfile(
        pool.name,
        name=_name(stack, pool.name),
        description=f"Pool {pool.name} of stack {stack}",
        model_source={"copy_from": _model_arn(pool)},
        tags=tags(stack, **{"freehold:pool": pool.name}),
        opts=opts,
    )


def _name(stack: str, pool: str) -> str:
    """Letters and digits with single dashes between them: all that Bedrock takes."""
    return re.sub(r"[^0-9A-Za-z]+", "-", f"{stack}-{pool}")[:_LONGEST_NAME].strip("-")


def _model_arn(pool: PoolPlan) -> str:
    assert pool.hosted
    return f"arn:aws:bedrock:{pool.hosted.region}::foundation-model/{pool.hosted.id}"


def _invoke(resources: Sequence[str]) -> str:
    return iam.document([iam.allow(_INVOKE, resources)])


def _own_account(arn: str) -> str:
    """Trusts those of the account to whom its own policies give `sts:AssumeRole` on the role."""
    parts = arn.split(":")
    account = parts[4] if len(parts) > 4 else arn  # in a rendering it is not known
    statement = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
