"""A disaggregated pool as it is rehearsed: the real Envoy, vLLM's real router, simulated engines."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ports import free_row

from freehold.config import parse_stack
from freehold.local.compose import compose_simulated
from freehold.local.home import StackHome
from freehold.local.process import ProcessSpec
from freehold.planning.plan import Plan, make_plan

from .door import Door
from .running import until

pytestmark = pytest.mark.vllm  # vllm-router is installed with the engine

INPUT_TOKENS = 2000
# Slower than the prompt is read, so that the time it takes cannot be overlooked.
LINK_GBPS = 2.0


def plan_of(gateway: int, engines: int) -> Plan:
    tree = {
        "target": {
            "kind": "eks",
            "region": "us-east-1",
            "zones": ["us-east-1a", "us-east-1b"],
            "endpoint": {"runner": "in-vpc"},
        },
        "pools": [
            {
                "name": "chat",
                "role": "generate",
                "model": "llama-3.1-8b",
                "context": 8192,
                "demand": {"concurrency": 1, "input_tokens": INPUT_TOKENS, "output_tokens": 200},
                "placement": {"instance_type": "g6e.xlarge"},
                "disaggregated": {
                    "prefill_replicas": 1,
                    "decode_replicas": 2,
                    "link_gbps": LINK_GBPS,
                },
            }
        ],
        "gateway": {"port": gateway},
        "engine_ports_from": engines,
        "observability": {"prometheus": None},
    }
    return make_plan("apart", parse_stack(tree, "test"))


@dataclass
class Rehearsed:
    door: Door
    plan: Plan
    specs: dict[str, ProcessSpec]
    processes: dict[str, subprocess.Popen[bytes]]

    def metric(self, engine: str, name: str, *labels: str) -> float:
        lines = httpx.get(f"{self.specs[engine].url}/metrics").text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(name) and all(label in line for label in labels)
        )


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    ports = free_row(40)
    plan, folder = plan_of(ports[0], ports[8]), tmp_path_factory.mktemp("apart")
    home = StackHome.of(folder, plan.stack)
    home.prepare()
    specs = {spec.name: spec for spec in compose_simulated(plan, {}, home)}
    for spec in specs.values():
        for path, text in spec.files.items():
            Path(path).write_text(text)
    with ExitStack() as stack:
        processes = {}
        for spec in specs.values():
            log = stack.enter_context((folder / f"{spec.name}.log").open("wb"))
            process = subprocess.Popen(
                spec.argv, env={**os.environ, **spec.env}, stdout=log, stderr=log
            )
            processes[spec.name] = process
            stack.callback(process.wait)
            stack.callback(process.kill)
        until(lambda: all(map(healthy, specs.values())), 90)
        door = Door(f"http://127.0.0.1:{ports[0]}", home.first_key())
        until(lambda: door.post("/v1/chat/completions", door.chat()).status_code == 200)
        yield Rehearsed(door, plan, specs, processes)


def healthy(spec: ProcessSpec) -> bool:
    assert spec.health and spec.health.url
    try:
        return httpx.get(spec.health.url).is_success
    except httpx.TransportError:
        return False


def test_prompts_are_read_there_and_answers_written_here(rehearsed: Rehearsed) -> None:
    door, words = rehearsed.door, "word " * INPUT_TOKENS
    engines = ("chat-prefill-0", "chat-decode-0", "chat-decode-1")
    before = {name: rehearsed.metric(name, "vllm:generation_tokens_total") for name in engines}
    for n in range(8):
        answer = door.post("/v1/chat/completions", door.chat(f"{n} {words}", max_tokens=20))
        assert answer.status_code == 200, answer.text[:300]
        assert answer.json()["usage"]["completion_tokens"] == 20
    wrote = {
        name: rehearsed.metric(name, "vllm:generation_tokens_total") - before[name]
        for name in engines
    }
    assert wrote["chat-prefill-0"] == 8  # the one token without which nothing is read
    assert wrote["chat-decode-0"] + wrote["chat-decode-1"] == 8 * 20
    computed = sum(
        rehearsed.metric(name, "vllm:prompt_tokens_by_source_total", 'source="local_compute"')
        for name in engines[1:]
    )
    handed = sum(
        rehearsed.metric(name, "vllm:prompt_tokens_by_source_total", "external_kv_transfer")
        for name in engines[1:]
    )
    assert handed > 8 * INPUT_TOKENS * 0.9 > 100 * computed


def test_the_first_token_comes_when_the_plan_says(rehearsed: Rehearsed) -> None:
    """Reading, moving, one step; the moving is a good half of it."""
    pool, door = rehearsed.plan.pools[0], rehearsed.door
    assert pool.predicted and pool.disaggregation
    assert pool.disaggregation.transfer.seconds * 1e3 > 0.5 * pool.predicted.median_ttft_ms
    times = []
    for n in range(7):
        # The gateway counts the tokens of no prompt: as many words as tokens, and few more.
        words = f"never read before: {n} " + "word " * (INPUT_TOKENS - 50)
        body = door.chat(words, max_tokens=3, stream=True)
        start = time.perf_counter()
        with door.client.stream(
            "POST", "/v1/chat/completions", json=body, headers=door.headers()
        ) as answer:
            next(answer.iter_lines())
            times.append(1e3 * (time.perf_counter() - start))
    # Time is real here, and others use this machine: they can only add to it.
    assert 0.75 < min(times) / pool.predicted.median_ttft_ms < 2


def test_one_worker_of_several_may_go(rehearsed: Rehearsed) -> None:
    """A check later nothing is lost any more; the router's own /health would take the whole pool out of
    the gateway."""
    door = rehearsed.door

    def all_answered() -> bool:
        answers = [door.post("/v1/chat/completions", door.chat()) for _ in range(20)]
        return all(answer.status_code == 200 for answer in answers)

    rehearsed.processes["chat-decode-1"].kill()
    until(lambda: not healthy(rehearsed.specs["chat-decode-1"]))
    until(all_answered, 10)
    rehearsed.processes["chat-decode-0"].kill()
    until(lambda: door.post("/v1/chat/completions", door.chat()).status_code == 503, 10)
