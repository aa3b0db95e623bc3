"""A mail before the month's tokens are over the budget: nothing stops by itself."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from .tags import tags

# Of the limit, in percent: spent, and foreseen for the month's end. AWS looks about three times a day
# (AWS Budgets user guide, read 2026-11-24).
_SPENT, _FORESEEN = 80, 100


class SpendAlarm(pulumi.ComponentResource):
    """A monthly budget on what the account spends at Bedrock.

    By service and not by tag: a tag counts only once somebody has activated it for the bill, and a budget
    that counts nothing never tells. Mail and not a topic: topics under AWS's own key are closed to Budgets.
    """

    def __init__(
        self, stack: str, usd_per_month: float, email: str | None, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("freehold:cluster:SpendAlarm", "spend-alarm", {}, opts)
        aws.budgets.Budget(
            "tokens",
            name=f"{stack}-tokens",
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=f"{usd_per_month:.2f}",
            limit_unit="USD",
            cost_filters=[{"name": "Service", "values": ["Amazon Bedrock"]}],
            notifications=[
                {
                    "notification_type": kind,
                    "comparison_operator": "GREATER_THAN",
                    "threshold": threshold,
                    "threshold_type": "PERCENTAGE",
                    "subscriber_email_addresses": [email],
                }
                for kind, threshold in (("ACTUAL", _SPENT), ("FORECASTED", _FORESEEN))
                if email
            ],
            tags=tags(stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
