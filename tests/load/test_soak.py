"""The parts of the soak benchmark, and a small run of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ports import free_row

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from loadtests.benchmarks.soak.watch import slope_of  # noqa: E402 - not in the distribution

HOUR = np.arange(0.0, 3600.0)


def test_a_leak_is_found_in_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 2, len(HOUR))
    found = slope_of(HOUR, 100 + 12 * HOUR / 3600 + noise)
    assert found.mib_per_hour == pytest.approx(12, abs=found.uncertainty)
    assert 0 < found.uncertainty < 1
    assert found.grows


def test_noise_is_no_leak() -> None:
    """In nineteen of twenty; two hundred seeds tell."""
    falsely = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(0, 2, 600)
        falsely += slope_of(HOUR[:600], 100 + noise).grows
    assert falsely <= 12  # one side of 5 % are 5


def test_a_line_is_exact_and_few_samples_say_nothing() -> None:
    found = slope_of(HOUR[:100], 50 + HOUR[:100] / 3600)
    assert (found.mib_per_hour, found.uncertainty) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    assert math.isnan(slope_of(HOUR[:10], HOUR[:10]).mib_per_hour)
    assert str(slope_of(HOUR[:10], HOUR[:10])) == "too short to say"


def test_a_small_run_tells_what_happened_to_whom(tmp_path: Path) -> None:
    """Thirty silent streams for three seconds."""
    command = [sys.executable, "-m", "loadtests.benchmarks.soak.run", "idle", "--count", "30"]
    command += ["--seconds", "3", "--first-port", str(_eleven_ports()), "--out", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=110)
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it started goes with it
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    (effect,) = json.loads((tmp_path / "soak.json").read_text())
    assert effect["failed"] == {} and effect["left"] == {}
    assert effect["others"]["got"] == {"first token": 30}
    assert effect["others"]["still_there"] == effect["stub"]["open"] == 30
    assert effect["envoy_files"]["peak"] >= effect["envoy_files"]["before"] + 30
    assert set(effect["during"]) == {"chat", "completions", "embeddings", "rerank"}
    assert "all is back" in said


def _eleven_ports() -> int:
    while True:
        ports = free_row(11)
        if ports[-1] - ports[0] == 10:
            return ports[0]
