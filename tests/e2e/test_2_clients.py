"""The documentation's client examples, before real engines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY, LiveStack

pytestmark = pytest.mark.e2e

EXAMPLES = sorted((REPOSITORY / "docs" / "clients").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(example: Path, stack: LiveStack) -> None:
    where = {"OPENAI_BASE_URL": f"{stack.base_url}/v1", "OPENAI_API_KEY": stack.key}
    done = subprocess.run(
        [sys.executable, str(example)],
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
