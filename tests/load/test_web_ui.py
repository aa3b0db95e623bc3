"""Plain locust with its own page: started, driven and read as the page does it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.load.deterministic import deterministic_server
from freehold.load.record import read_recording

from ..ports import free_ports

ROOT = Path(__file__).parents[2]
TTFT_MS, ITL_MS, TOKENS = 60, 10, 21
# Not imported: freehold.load.users patches the process that reads it, as locust does.
TTFT_ROW, TOKEN_ROW = "time to first token", "each token after the first"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    server = ("--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS), "--model", "chat", "--key", "k")
    with deterministic_server(*server) as url:
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", url]
        command += ["--web-host", "127.0.0.1", "--web-port", str(port), "--out", str(tmp_path)]
        command += ["--input-tokens", "60", "--output-tokens", str(TOKENS)]
        env = {**os.environ, "FREEHOLD_API_KEY": "k"}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            _, said = process.communicate(timeout=60)
        assert "Traceback" not in said, said


def _until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if found := what():
                return found
        time.sleep(0.3)
    pytest.fail("it did not come about in time")


def test_tokens_are_live_rows_of_locust_s_own_page(page: str, tmp_path: Path) -> None:
    client = httpx.Client(base_url=page, trust_env=False)
    assert "Locust" in _until(lambda: client.get("/").text)
    client.post("/swarm", data={"user_count": 4, "spawn_rate": 4}).raise_for_status()

    def rows() -> dict[str, Any] | None:
        stats = client.get("/stats/requests").json()["stats"]
        found = {row["name"]: row for row in stats}
        return found if found.get("chat", {}).get("num_requests", 0) >= 6 else None

    found = _until(rows)
    client.post("/stop").raise_for_status()
    done = found["chat"]["num_requests"]
    assert found[TTFT_ROW]["num_requests"] == done
    assert found[TOKEN_ROW]["num_requests"] == done * (TOKENS - 1)
    assert found[TTFT_ROW]["avg_response_time"] == pytest.approx(TTFT_MS, rel=0.5)
    assert found[TOKEN_ROW]["avg_response_time"] == pytest.approx(ITL_MS, rel=0.3)
    # They are beside the requests, not in their total.
    assert found["Aggregated"]["num_requests"] == done
    assert found["chat"]["num_failures"] == 0
    assert _until(lambda: len(read_recording(tmp_path).requests) >= done), "kept as well"
