"""What a load test on this cluster said of the latency model."""

from __future__ import annotations

from pydantic import Field

from .base import Model


class Calibration(Model):
    """Factors on what the latency model says; `freehold predict --calibrate REPORT --write` puts
    them here. They count only for the deployment that was measured."""

    deployment: str = Field(
        description="Model, weights, and how many of which GPU: `qwen2.5-7b fp8 on 1 L40S`."
    )
    measured: str = Field(description="When, and at how many levels of load.")
    step: float = Field(gt=0, description="On every decode step.")
    prefill: float = Field(gt=0, description="On computing a prompt.")
    request: float = Field(gt=0, description="On what a request waits for beside both.")
