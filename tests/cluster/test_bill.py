"""Planned against billed, with moto in place of Cost Explorer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from click.testing import CliRunner
from moto import mock_aws
from serving.programs import ROOT, plan_of

from freehold.cli import bill
from freehold.cli.status import command
from freehold.cluster.bill import Line, compare
from freehold.config import FreeholdError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Every request that Cost Explorer gets."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.chdir(ROOT)
    requests_seen: list[dict[str, Any]] = []
    with mock_aws():
        session = boto3.Session(region_name="us-east-2")
        event = "provide-client-params.ce.GetCostAndUsage"
        session.events.register(event, lambda params, **_: requests_seen.append(dict(params)))
        monkeypatch.setattr(bill, "session_with_credentials", lambda _: session)
        yield requests_seen


def _will_say(*days: dict[str, float]) -> None:
    """Cost Explorer's next answers: dollars by usage type, a page for each."""
    pages = [
        {
            "ResultsByTime": [
                {
                    "TimePeriod": {"Start": "2026-11-01", "End": "2026-11-02"},
                    "Groups": [
                        {
                            "Keys": [usage],
                            "Metrics": {"UnblendedCost": {"Amount": str(usd), "Unit": "USD"}},
                        }
                        for usage, usd in day.items()
                    ],
                }
            ],
            **({"NextPageToken": "more"} if place + 1 < len(days) else {}),
        }
        for place, day in enumerate(days)
    ]
    url = "http://motoapi.amazonaws.com/moto-api/static/ce/cost-and-usage-results"
    assert requests.post(url, json={"results": pages}, timeout=10).status_code == 201


def test_each_item_has_what_was_billed_for_it(asked: list[dict[str, Any]]) -> None:
    _will_say(
        {"USE2-BoxUsage:g6.2xlarge": 20.0, "USE2-NatGateway-Hours": 1.0},
        {"USE2-BoxUsage:g6.2xlarge": 22.5, "USE2-DataTransfer-Out-Bytes": 3.25},
    )
    done = CliRunner().invoke(command, ["small", "--bill", "--days", "2"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    (gpu,) = [line for line in lines if line[:2] == ["GPU", "nodes"]]
    planned = next(item for item in _small().items if item.gpu).usd_per_hour * 48
    assert gpu[-2:] == [f"{planned:.2f}", "42.50"]
    (nat,) = [line for line in lines if line[:1] == ["NAT"]]
    assert nat[-1] == "1.00"
    assert ["USE2-DataTransfer-Out-Bytes", "not", "in", "the", "plan", "3.25"] in lines
    assert lines[-1][0] == "together" and lines[-1][-1] == "46.75"
    assert [one["Filter"] for one in asked] == [
        {"Tags": {"Key": "freehold:stack", "Values": ["small"]}}
    ] * 2
    assert asked[1]["NextPageToken"] == "more"


def test_nothing_billed_is_said_with_the_reason(asked: list[dict[str, Any]]) -> None:
    _will_say({})
    done = CliRunner().invoke(command, ["small", "--bill"])
    assert done.exit_code == 1
    assert "Cost allocation tags" in done.output


@pytest.mark.usefixtures("asked")
def test_a_stack_without_a_bill_and_a_machine_without_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = CliRunner().invoke(command, ["onprem", "--bill"]).exception
    assert isinstance(refused, FreeholdError) and "only EKS stacks" in str(refused)
    monkeypatch.setattr(bill, "session_with_credentials", lambda _: None)
    refused = CliRunner().invoke(command, ["small", "--bill"]).exception
    assert isinstance(refused, FreeholdError) and "credentials" in str(refused)


def _small() -> Any:
    return plan_of("small").cost


def test_every_item_of_every_eks_stack_is_known_to_the_bill() -> None:
    """What the plan counts, a bill's own word for it finds."""
    bill_of = {
        "USE2-BoxUsage:m7i.xlarge": 1.0,
        "USE2-SpotUsage:g7e.12xlarge": 2.0,
        "USE2-BoxUsage:g6.xlarge": 3.0,
        "USE2-AmazonEKS-Hours:perCluster": 4.0,
        "NatGateway-Hours": 5.0,
        "USE2-VpcEndpoint-Hours": 6.0,
        "USE2-LoadBalancerUsage": 7.0,
        "USE2-EBS:VolumeUsage.gp3": 8.0,
        "USE2-TimedStorage-ByteHrs": 9.0,
    }
    cost = plan_of("medium").cost
    assert cost is not None
    lines = compare(cost, bill_of, days=1)
    assert sorted(line.billed for line in lines) == [float(n) for n in range(1, 10)]
    assert all(line.planned for line in lines)


def test_machines_of_one_type_are_one_line() -> None:
    cost = plan_of("medium").cost
    assert cost is not None
    twice = type(cost)(
        items=(*cost.items[:1], *cost.items[:1]), output_tokens_per_second=1, hours_per_month=730
    )
    (line,) = compare(twice, {"BoxUsage:g7e.12xlarge": 1.0}, days=365)
    assert isinstance(line, Line) and line.billed == 1.0
    assert line.planned == pytest.approx(2 * 12 * cost.items[0].usd_per_month)
