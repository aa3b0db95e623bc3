"""The client examples run, against simulated engines behind the real gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ports import free_row

from .pages import DOCS

FREEHOLD = Path(sys.executable).with_name("freehold")
EXAMPLES = sorted(DOCS.glob("clients/*.py"))


def stack(ports: list[int]) -> dict[str, object]:
    """The laptop's pools, without the cache and Prometheus: clients see neither."""
    engine = {"dtype": "float32", "enforce_eager": True}
    return {
        "target": {"kind": "local"},
        "pools": [
            {
                "name": "chat",
                "role": "generate",
                "model": "tiny-chat",
                "aliases": ["gpt-4o"],
                "engine": {"max_model_len": 4096, "tool_call_parser": "hermes"},
            },
            {"name": "embed", "role": "embed", "model": "minilm", "engine": engine},
            {"name": "rerank", "role": "rerank", "model": "tiny-reranker", "engine": engine},
        ],
        "gateway": {"port": ports[0]},
        "engine_ports_from": ports[6],
        "observability": {"prometheus": None},
    }


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running stack, as a client's environment sees it."""
    root = tmp_path_factory.mktemp("clients")
    ports = free_row(12)  # the gateway takes the first four
    tree = {"config": {"freehold:stack": stack(ports)}}
    (root / "Pulumi.clients.yaml").write_text(yaml.safe_dump(tree))
    up = run(root, "up", "clients", "--engine", "simulated", "--no-smoke")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        key = (root / ".freehold" / "clients" / "api-key").read_text().strip()
        base_url = f"http://127.0.0.1:{ports[0]}/v1"
        yield {**os.environ, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key}
    finally:
        run(root, "down", "clients")


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FREEHOLD), *arguments], cwd=root, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(example: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_every_example_is_on_the_page() -> None:
    page = (DOCS / "clients" / "index.md").read_text()
    assert [e.name for e in EXAMPLES if f'"clients/{e.name}"' not in page] == []
