"""A stack whose models Bedrock serves: the target, and what such a stack may not say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Model
from .target import EksTarget


class BedrockTarget(Model):
    """Models by the token: no GPU, no engine. Only the gateway runs, here or on a cluster."""

    kind: Literal["bedrock"]
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
        description="In place of the region's public endpoint: such as that of a VPC's own.",
    )
    alarm_email: str | None = Field(
        default=None,
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="Who hears that the month's tokens near `budget`.",
    )
    cluster: EksTarget | None = Field(
        default=None,
        description="An EKS cluster without GPUs for the gateway; it runs on this machine when absent.",
    )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that requests go to."""
        if self.endpoint is None:
            return f"bedrock-runtime.{self.region}.amazonaws.com", 443
        host, _, port = self.endpoint.removeprefix("https://").partition(":")
        return host, int(port or 443)
