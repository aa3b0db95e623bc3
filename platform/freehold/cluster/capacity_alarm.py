"""A warning before dated capacity ends: it cannot be extended at the last minute."""

from __future__ import annotations

import datetime

import pulumi
import pulumi_aws as aws

from . import iam
from .tags import tags

# EKS scales the group to zero 40 minutes before the end; a day is enough to buy and move.
_BEFORE = datetime.timedelta(hours=24)


class CapacityAlarm(pulumi.ComponentResource):
    """One message to a topic, a day before the end."""

    topic: pulumi.Output[str]

    def __init__(
        self,
        stack: str,
        ends: datetime.datetime,
        email: str | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("freehold:cluster:CapacityAlarm", "capacity-alarm", {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        topic = aws.sns.Topic(
            "capacity",
            kms_master_key_id="alias/aws/sns",
            tags=tags(stack),
            opts=child,
        )
        if email:
            aws.sns.TopicSubscription(
                "capacity", topic=topic.arn, protocol="email", endpoint=email, opts=child
            )
        role, _ = iam.service_role(
            "capacity-alarm", "scheduler.amazonaws.com", [], child, tags=tags(stack)
        )
        allowed = aws.iam.RolePolicy(
            "capacity-alarm",
            role=role.name,
            policy=topic.arn.apply(lambda arn: iam.document([iam.allow(["sns:Publish"], [arn])])),
            opts=child,
        )
        at = (ends - _BEFORE).astimezone(datetime.UTC)
        aws.scheduler.Schedule(
            "capacity-alarm",
            schedule_expression=f"at({at:%Y-%m-%dT%H:%M:%S})",
            flexible_time_window={"mode": "OFF"},
            target={
                "arn": topic.arn,
                "role_arn": role.arn,
                "input": f"Stack {stack}: the Capacity Block ends {ends:%Y-%m-%d %H:%M %Z}. "
                "EKS empties its nodes 40 minutes before. Buy the next one and put its id into "
                "the stack file.",
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[allowed]),
        )
        self.topic = topic.arn
        self.register_outputs({})
