"""A rehearsal as a user starts it: a worker is killed under load, and the alerts say so.

Every fault with its alerts is in tests/monitoring/test_fault_proof.py; here is the whole command once.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from .conftest import FREEHOLD, REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GATEWAY_PORT, ENGINE_PORTS, PROMETHEUS_PORT = 18180, 18201, 19291
TREE = {
    "extends": "small",
    "gateway": {"port": GATEWAY_PORT},
    "engine_ports_from": ENGINE_PORTS,
    "observability": {"prometheus": {"port": PROMETHEUS_PORT}},
}
# One worker is all of the pool.
EXPECTED = {"PoolDown", "WorkerDown", "ErrorBudgetBurnsFast", "GatewayErrors"}


@pytest.fixture
def root(checkout: Path) -> Path:
    (checkout / "Pulumi.small.yaml").symlink_to(REPOSITORY / "Pulumi.small.yaml")
    (checkout / "loadtests").symlink_to(REPOSITORY / "loadtests")
    document = {"config": {"freehold:stack": TREE}}
    (checkout / "Pulumi.rehearsed.yaml").write_text(yaml.safe_dump(document))
    return checkout


def firing() -> set[str]:
    """What Prometheus says now; nothing while it is not there."""
    try:
        found = httpx.get(f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/alerts", timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return set()
    alerts = found["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def test_a_killed_worker_is_seen_by_clients_and_alerts_and_then_gone(root: Path) -> None:
    words = ("--fault", "kill-worker@5", "--duration", "40", "--out", "rehearsal")
    process = subprocess.Popen(
        [str(FREEHOLD), "rehearse", "rehearsed", *words],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen: set[str] = set()
    while process.poll() is None:
        seen |= firing()
        time.sleep(0.5)
    output = process.communicate()[0]
    assert process.returncode in (1, 3), (
        output
    )  # requests were lost; 3: the machine was busy as well
    print(output)
    assert seen >= EXPECTED
    shown = output.partition("alert ")[2].partition("what happened")[0].splitlines()[1:]
    table = {row[0]: row for line in shown if (row := re.split(r"\s{2,}", line.strip()))[0]}
    assert set(table) == EXPECTED
    for alert in ("PoolDown", "WorkerDown"):
        fired, resolved = map(float, table[alert][1:])
        assert 0 < fired < resolved < 60
    report = json.loads((root / "rehearsal" / "report.json").read_text())
    assert report["completed"] > 5, "the worker came back"
    assert set(report["error_kinds"]) <= {"http 503", "disconnected", "broken stream"}
    assert report["failed"] > 0
    assert "chat-0 was killed" in output and "answer again after" in output
