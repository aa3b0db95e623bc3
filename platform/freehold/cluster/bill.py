"""What AWS has billed for a stack, beside what its plan says, item by item."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from freehold.planning.cost import HOURS_A_MONTH, Cost

TAG = "freehold:stack"

# Usage types as bills write them, in most regions after a prefix such as `USE2-` (AWS's VPC user guide,
# "Understand codes for Amazon VPC in billing and usage reports"; the others as Cost and Usage Reports show
# them; read 2026-11-24). An item of the plan is known by how its name begins.
_USAGE = {
    "EKS control plane": r"AmazonEKS-Hours:perCluster",
    "NAT gateways": r"NatGateway-Hours",
    "interface endpoints": r"VpcEndpoint-Hours",
    "network load balancer": r"LoadBalancerUsage",
    "disks": r"EBS:VolumeUsage\.gp3",
    "model store": r"TimedStorage-ByteHrs",
}
_MACHINES = re.compile(r": \d+ x (?P<type>[a-z0-9-]+\.[a-z0-9]+)$")
_CENT = 0.005


@dataclass(frozen=True)
class Line:
    """US dollars of the same days; `planned` is None for what the plan leaves out."""

    name: str
    planned: float | None
    billed: float


def compare(cost: Cost, billed: Mapping[str, float], days: int) -> list[Line]:
    """Every item of the plan with what was billed for it, then what else was billed.

    Machines of one type are one line: a bill does not tell them apart. Bought in advance (Capacity Blocks,
    reservations), they are billed when they were bought and not day by day.
    """
    left = {usage: usd for usage, usd in billed.items() if usd >= _CENT}
    names: dict[str, list[str]] = {}
    planned: dict[str, float] = {}
    for item in cost.items:
        pattern = _pattern(item.name)
        names.setdefault(pattern, []).append(item.name)
        share = item.usd_per_month * 24 * days / HOURS_A_MONTH
        planned[pattern] = planned.get(pattern, 0.0) + share
    lines = [
        Line("; ".join(names[pattern]), usd, sum(_taken(left, pattern)))
        for pattern, usd in planned.items()
    ]
    return lines + [
        Line(usage, None, left[usage]) for usage in sorted(left, key=lambda u: -left[u])
    ]


def _pattern(item: str) -> str:
    if machines := _MACHINES.search(item):
        return rf"(Box|Spot)Usage:{re.escape(machines['type'])}"
    return next((usage for name, usage in _USAGE.items() if item.startswith(name)), re.escape(item))


def _taken(left: dict[str, float], pattern: str) -> Iterator[float]:
    """Dollars of the usage types that belong to it, which are then gone from what is left."""
    for usage in [usage for usage in left if re.search(rf"(^|-){pattern}$", usage)]:
        yield left.pop(usage)


def billed(session: Any, stack: str, start: date, end: date) -> dict[str, float]:
    """US dollars by usage type of what bears the stack's tag, from `start` to before `end`.

    Asks Cost Explorer, which takes a cent a request. Raises botocore's ClientError.
    """
    client = session.client("ce")
    request: dict[str, Any] = {
        "TimePeriod": {"Start": start.isoformat(), "End": end.isoformat()},
        "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
        "GroupBy": [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
        "Filter": {"Tags": {"Key": TAG, "Values": [stack]}},
    }
    found: dict[str, float] = {}
    while True:
        answer = client.get_cost_and_usage(**request)
        for group in (group for day in answer["ResultsByTime"] for group in day["Groups"]):
            (usage,) = group["Keys"]
            usd = float(group["Metrics"]["UnblendedCost"]["Amount"])
            found[usage] = found.get(usage, 0.0) + usd
        if not answer.get("NextPageToken"):
            return found
        request["NextPageToken"] = answer["NextPageToken"]
