"""What is committed of vLLM is what the pinned vLLM has."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from freehold.engine.vllm_flags import arguments
from freehold.simulator.snapshot import METRICS


@pytest.mark.vllm
def test_metrics_are_those_of_the_installed_vllm() -> None:
    command = [sys.executable, "-m", "freehold.simulator.snapshot", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_flag_and_every_metric_is_there_once() -> None:
    names = [name for flag in arguments() for name in flag["names"]]
    assert len(set(names)) == len(names) > 300
    families = [family["name"] for family in json.loads(METRICS.read_text())]
    assert len(set(families)) == len(families) > 40
