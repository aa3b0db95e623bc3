"""When Kubernetes takes an engine for started, ready and dead."""

from __future__ import annotations

import math

import pulumi_kubernetes as k8s

from freehold.planning.startup import Startup

from .names import ENGINE_PORT

_PERIOD_SECONDS = 10
# The plan's seconds are estimates (planning/startup.py): three times as long before a start counts as
# failed, since a start that is broken off begins anew and a slow one then never ends.
_STARTUP_FACTOR = 3
_LEAST_STARTUP_SECONDS = 300
# The API server's event loop answers /health too, and is held up by the tokenization of long prompts:
# only a minute and a half of silence, six checks long, is a dead engine.
_LIVENESS_PERIOD_SECONDS, _LIVENESS_FAILURES, _LIVENESS_TIMEOUT_SECONDS = 15, 6, 10


def startup_seconds(startup: Startup) -> int:
    """The budget from the container's start to the first healthy answer: node and image are there."""
    return max(
        _LEAST_STARTUP_SECONDS, math.ceil(_STARTUP_FACTOR * (startup.weights + startup.warm_up))
    )


def progress_seconds(startup: Startup, grace: int) -> int:
    """The budget of one step of a rollout: the old pod's going, the new one's image and start."""
    fresh = math.ceil(_STARTUP_FACTOR * (startup.node + startup.image))
    return grace + fresh + startup_seconds(startup) + _LEAST_STARTUP_SECONDS


def startup_probe(startup: Startup) -> k8s.core.v1.ProbeArgs:
    return k8s.core.v1.ProbeArgs(
        http_get=_health(),
        period_seconds=_PERIOD_SECONDS,
        timeout_seconds=5,
        failure_threshold=math.ceil(startup_seconds(startup) / _PERIOD_SECONDS),
    )


def readiness_probe() -> k8s.core.v1.ProbeArgs:
    """What decides who is in DNS; the gateway's own checks, every second, act sooner."""
    return k8s.core.v1.ProbeArgs(
        http_get=_health(), period_seconds=5, timeout_seconds=5, failure_threshold=3
    )


def liveness_probe() -> k8s.core.v1.ProbeArgs:
    return k8s.core.v1.ProbeArgs(
        http_get=_health(),
        period_seconds=_LIVENESS_PERIOD_SECONDS,
        timeout_seconds=_LIVENESS_TIMEOUT_SECONDS,
        failure_threshold=_LIVENESS_FAILURES,
    )


def _health() -> k8s.core.v1.HTTPGetActionArgs:
    return k8s.core.v1.HTTPGetActionArgs(path="/health", port=ENGINE_PORT)
