"""The real stack, brought up once for the whole suite, in a checkout of its own.

Order matters: the files are numbered, and each leaves the stack whole. Real here are vLLM on CPU,
LMCache, Redis, Envoy with its picker and Prometheus; the chat models are made on the spot.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from openai import OpenAI

REPOSITORY = Path(__file__).parents[2]
FREEHOLD = Path(sys.executable).with_name("freehold")

# Ports beside the defaults, so that the suite runs while `make up` does.
GATEWAY_PORT, ENGINE_PORTS, CACHE_PORT, REDIS_PORT, PROMETHEUS_PORT = (
    18080,
    18101,
    15570,
    16390,
    19091,
)
OTHER = "other"
"""A second tenant beside the default one."""


def stack_tree() -> dict[str, Any]:
    """Pulumi.local.yaml as it is committed, with the second chat model uncommented and other ports."""
    text = (REPOSITORY / "Pulumi.local.yaml").read_text()
    lines = [
        line.replace("# ", "", 1) if line.startswith(("      # - name", "      #   ")) else line
        for line in text.splitlines()
    ]
    document = yaml.safe_load("\n".join(lines))
    tree = document["config"]["freehold:stack"]
    tree["gateway"]["port"] = GATEWAY_PORT
    tree["gateway"]["keys"].append({"tenant": OTHER})  # more than one: sealed caches
    tree["engine_ports_from"] = ENGINE_PORTS
    tree["cache"]["port"] = CACHE_PORT
    tree["cache"]["redis"]["port"] = REDIS_PORT
    tree["observability"]["prometheus"]["port"] = PROMETHEUS_PORT
    chat = tree["pools"][0]
    chat["model"] = "tiny-chat"  # the same everywhere, whether or not a hub is reached
    chat["aliases"] = ["gpt-4o"]  # as docs/clients/moving_over.py asks
    return tree


@dataclass
class LiveStack:
    """A running stack and the ways a test looks at it."""

    root: Path
    name: str = "local"

    @property
    def file(self) -> Path:
        return self.root / f"Pulumi.{self.name}.yaml"

    def write(self, tree: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump({"config": {"freehold:stack": tree}}, sort_keys=False))

    def freehold(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(FREEHOLD), *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self) -> str:
        done = self.freehold("up", self.name)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, dict[str, Any]]:
        """Every process by name, as `freehold status --json` tells."""
        done = self.freehold("status", self.name, "--json")
        return {process["name"]: process for process in json.loads(done.stdout)["processes"]}

    def pid(self, name: str) -> int:
        return int(self.status()[name]["pid"])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{GATEWAY_PORT}"

    @property
    def key(self) -> str:
        return self.key_of()

    def key_of(self, tenant: str = "") -> str:
        """The default tenant's key, or another's."""
        file = f"api-key-{tenant}" if tenant else "api-key"
        return (self.root / ".freehold" / self.name / file).read_text().strip()

    @property
    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.base_url}/v1", api_key=self.key, max_retries=0, timeout=120)

    def chat(
        self, prompt: str, *, worker: str = "", tenant: str = "", **body: Any
    ) -> httpx.Response:
        """One chat request; `worker` pins it."""
        headers = {"authorization": f"Bearer {self.key_of(tenant)}"}
        if worker:
            headers["x-freehold-worker"] = worker
        fields = {"model": "chat", "max_tokens": 4, "temperature": 0.0, **body}
        fields["messages"] = [{"role": "user", "content": prompt}]
        url = f"{self.base_url}/v1/chat/completions"
        return httpx.post(url, json=fields, headers=headers, timeout=120)

    def metric(self, worker: str, name: str, **labels: str) -> float:
        """Sum of a worker's samples of one metric, read from the engine itself."""
        text = httpx.get(f"{self.status()[worker]['url']}/metrics", timeout=10).text
        total, seen = 0.0, False
        for line in text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] != name:
                continue
            if all(f'{label}="{wanted}"' in sample for label, wanted in labels.items()):
                total, seen = total + float(value), True
        assert seen, f"{worker} exports no {name}"
        return total


def until(what: str, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stack file and the repository's tools, so that nothing is fetched twice."""
    root = tmp_path_factory.mktemp("e2e")
    tools = REPOSITORY / ".freehold" / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    (root / ".freehold").mkdir()
    (root / ".freehold" / "tools").symlink_to(tools)
    return root


@pytest.fixture(scope="session")
def stack(checkout: Path) -> Iterator[LiveStack]:
    live = LiveStack(checkout)
    live.write(stack_tree())
    started = time.monotonic()
    live.output = live.up()  # type: ignore[attr-defined]
    print(f"\nthe stack was up in {time.monotonic() - started:.0f} s\n{live.output}")  # type: ignore[attr-defined]
    try:
        yield live
    finally:
        live.freehold("down", live.name)


def text_of(words: int, salt: str) -> str:
    """Prose of about that many tokens of the tiny model, different for each salt."""
    import pydoc_data.topics
    import random

    source = " ".join(pydoc_data.topics.topics.values()).split()
    chooser = random.Random(salt)
    return " ".join(chooser.choice(source) for _ in range(words))


def alive(pid: int) -> bool:
    """Runs, and is not merely waiting for its parent to notice that it ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
