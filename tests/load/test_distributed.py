"""Several generator processes: nothing is lost on the way to one report."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from freehold.cli.main import cli
from freehold.load.deterministic import deterministic_server
from freehold.load.stages import Stage
from freehold.load.test import API_KEY, TEST_FILE, LoadTest
from freehold.load.traffic import Traffic
from freehold.load.verdict import Promise

from ..ports import free_ports

ROOT = Path(__file__).parents[2]
LOCUSTFILE = ROOT / "loadtests" / "tiers" / "small.py"
KEY = "sk-cluster"
REQUESTS, TOKENS = 61, 6


@pytest.fixture
def url() -> Iterator[str]:
    options = ("--ttft-ms", "20", "--itl-ms", "4", "--model", "chat", "--key", KEY)
    with deterministic_server(*options) as url:
        yield url


def _served(url: str) -> int:
    """Streams that the server has sent to their end."""
    headers = {"authorization": f"Bearer {KEY}"}
    found = httpx.get(f"{url}/truth", headers=headers, timeout=10, trust_env=False).json()
    return int(found["requests"])


def _check(out: Path, report: dict[str, Any], url: str) -> None:
    assert (report["completed"], report["failed"]) == (REQUESTS, 0)
    assert report["total_output_tokens"] == REQUESTS * TOKENS
    with (out / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == _served(url), "warm-up included"
    assert sum(row["warmup"] == "False" for row in rows) == REQUESTS
    # No two of them are the same, and both processes have sent their share.
    assert len({(row["session"], row["turn"]) for row in rows}) == len(rows)
    assert {row["session"][0] for row in rows} == {"0", "1"}
    assert len(list(out.glob("records-*.jsonl"))) == 3, "the master and two workers"


def test_processes_of_one_machine_merge_without_loss(url: str, tmp_path: Path) -> None:
    command = ["load", "local", "--base-url", url, "--api-key", KEY, "--out", str(tmp_path)]
    command += ["--concurrency", "5", "--requests", str(REQUESTS), "--processes", "2"]
    lengths = ("--input-tokens", "60", "--output-tokens", str(TOKENS), "--no-self-check")
    with contextlib.chdir(ROOT):
        done = CliRunner().invoke(cli, [*command, *lengths])
    assert done.exit_code in (0, 3), done.output
    _check(tmp_path, json.loads((tmp_path / "report.json").read_text()), url)


def test_a_master_and_workers_as_the_job_starts_them(url: str, tmp_path: Path) -> None:
    """The commands of the two Kubernetes Jobs; 127.0.0.2 stands for another machine, so that the
    records come over the network."""
    (port,) = free_ports(1)
    test = LoadTest(
        base_url=url,
        model="chat",
        out=tmp_path / "master",
        corpora=tmp_path / "corpora",
        traffic=Traffic(input_tokens=60, output_tokens=TOKENS),
        stages=(Stage(name="all", concurrency=5),),
        requests=REQUESTS,
        processes=2,
        self_check=False,
    )
    (tmp_path / "promise.json").write_text(json.dumps(Promise(usd_per_hour=3.6).as_json()))
    master = _start(
        test,
        tmp_path,
        *("-m", "freehold.load.run", str(tmp_path / "master.json")),
        *("--promise", str(tmp_path / "promise.json"), "--locustfile", str(LOCUSTFILE)),
        *("--port", str(port)),
    )
    work = ("-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--worker")
    work += ("--master-host", "127.0.0.2", "--master-port", str(port))
    workers = [
        _start(test.model_copy(update={"out": tmp_path / name}), tmp_path, *work)
        for name in ("one", "two")
    ]
    try:
        said, wrong = master.communicate(timeout=100)
        assert master.returncode in (0, 3), wrong
        for worker in workers:
            assert worker.wait(timeout=30) == 0
    finally:
        for process in (master, *workers):
            process.kill()
            process.communicate()
    report = json.loads(said.splitlines()[-1])
    _check(tmp_path / "master", report, url)
    assert report["cost"]["usd_per_hour"] == 3.6
    assert KEY not in said + wrong


def _start(test: LoadTest, folder: Path, *command: str) -> subprocess.Popen[str]:
    file = folder / f"{test.out.name}.json"
    file.write_text(test.model_dump_json())
    env = {**os.environ, TEST_FILE: str(file), API_KEY: KEY}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True
    )
