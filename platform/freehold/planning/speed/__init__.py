"""Latency and throughput of a deployment: physics, with constants fitted on measured rows.

deployment   what is asked: model, GPU, parallelism, limits, and the load
work         physics of a step at full specification: bytes, operations, messages
seconds      from work to seconds with the fitted constants
closed_loop  queueing: how many run, how many wait
predict      the planner's `predict`, the simulator's `step_seconds`
rows         what a measured row's columns say, and what they hide
calibrate    fits the constants on catalog/measured/*.csv and writes constants.json
"""

from .deployment import Deployment, Factors, Load, Speculation
from .predict import (
    FROM_PHYSICS,
    Prediction,
    outside_steps_seconds,
    predict,
    roofline_floor,
    step_seconds,
)

__all__ = [
    "FROM_PHYSICS",
    "Deployment",
    "Factors",
    "Load",
    "Prediction",
    "Speculation",
    "outside_steps_seconds",
    "predict",
    "roofline_floor",
    "step_seconds",
]
