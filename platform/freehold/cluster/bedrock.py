"""From a plan whose models Bedrock serves to what it needs in AWS: names, one role, an alarm; no GPU."""

from __future__ import annotations

import dataclasses

import pulumi
import pulumi_aws as aws

from freehold.config import FreeholdError
from freehold.config.bedrock import BedrockTarget
from freehold.planning.plan import Plan

from .compose import EksPlatform, Platform
from .hosted_models import HostedModels
from .spend_alarm import SpendAlarm


class BedrockPlatform(pulumi.ComponentResource):
    """Parent of everything that a stack with target.kind bedrock has in AWS."""

    models: HostedModels
    platform: Platform | None
    """The gateway's cluster; None where it runs on somebody's machine."""

    def __init__(
        self,
        plan: Plan,
        settings: BedrockTarget,
        *,
        gateway_namespace: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("freehold:cluster:BedrockPlatform", plan.stack, {}, opts)
        # Bedrock's region, whatever the shell's default and the cluster's are.
        provider = aws.Provider(
            "bedrock", region=settings.region, opts=pulumi.ResourceOptions(parent=self)
        )
        child = pulumi.ResourceOptions(parent=self, providers=[provider])
        cluster = None
        if settings.cluster:
            # Without GPUs there is no engine to name and no model to fetch.
            cluster = EksPlatform(
                plan,
                settings.cluster,
                engine_tag="",
                hub_token=None,
                gpu_metrics="",
                opts=pulumi.ResourceOptions(parent=self),
            ).platform
        target = cluster and cluster.target
        self.models = HostedModels(plan.stack, plan.pools, target, gateway_namespace, child)
        self.platform = cluster and _once_allowed(cluster, self.models)
        if limit := _for_tokens(plan):
            SpendAlarm(plan.stack, limit, settings.alarm_email, child)
        self.register_outputs({})


def _once_allowed(platform: Platform, models: HostedModels) -> Platform:
    """Pods get their credentials when they are created, not later."""
    target = platform.target
    ready = (*target.ready, *models.ready)
    return dataclasses.replace(platform, target=dataclasses.replace(target, ready=ready))


def _for_tokens(plan: Plan) -> float | None:
    """What of the month's budget is left for tokens beside a cluster."""
    if plan.budget is None or plan.cost is None:
        return None
    return plan.budget.usd_per_month - plan.cost.usd_per_month + plan.cost.token_usd_per_month


def refuse(plan: Plan, settings: BedrockTarget, *, rendering: bool = False) -> None:
    """Raises FreeholdError for an alarm that nobody would hear; while `rendering` nothing is created."""
    if plan.budget and settings.alarm_email is None and not rendering:
        raise FreeholdError(
            f"stack {plan.stack} cannot be created: target.alarm_email: nobody would hear that the "
            "month's tokens near the budget: name who should, or leave budget out"
        )
