"""`freehold load` and plain locust, end to end against the deterministic server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from freehold.cli.main import cli
from freehold.config import FreeholdError
from freehold.load.deterministic import deterministic_server
from freehold.load.record import read_recording
from freehold.load.run import TEST

ROOT = Path(__file__).parents[2]
KEY = "sk-test"
# Fast, and without the calibration, which tests/load/test_selfcheck.py has: two cores may be busy.
QUICK = ("--concurrency", "3", "--input-tokens", "60", "--output-tokens", "8", "--no-self-check")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    options = ("--ttft-ms", "20", "--itl-ms", "4", "--model", "chat", "--key", KEY)
    with deterministic_server(*options) as url:
        yield url


def _load(*arguments: str, url: str, out: Path) -> Result:
    command = ["load", "local", "--base-url", url, "--api-key", "env:LOAD_KEY", "--out", str(out)]
    with contextlib.chdir(ROOT):
        return CliRunner().invoke(cli, [*command, *arguments], env={"LOAD_KEY": KEY})


def _report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())


def _settled(done: Result, out: Path) -> dict[str, Any]:
    """The report of a run whose generator may have been disturbed by whatever else runs here."""
    assert done.exit_code in (0, 3), done.output
    report = _report(out)
    disturbed = ("event loop", "of a core", "after they were due")
    assert all(any(d in r for d in disturbed) for r in report["invalid_reasons"]), report
    return report


@pytest.fixture(scope="module")
def measured(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a closed loop of twelve requests."""
    out = tmp_path_factory.mktemp("a-folder-with-quite-a-long-name-of-its-own")
    _settled(_load(*QUICK, "--requests", "12", url=url, out=out), out)
    return out


def test_a_closed_loop_of_a_number_of_requests(measured: Path) -> None:
    report = _report(measured)
    assert (report["completed"], report["failed"]) == (12, 0)
    assert report["max_concurrent_requests"] == 3
    assert set(report["input_lens"]) == {60} and set(report["output_lens"]) == {8}
    assert report["median_ttft_ms"] >= 20 and report["median_itl_ms"] >= 3
    assert report["verdict"]["met"]
    assert KEY not in "".join(p.read_text() for p in measured.iterdir())


def test_an_open_loop_in_stages_over_two_processes(url: str, tmp_path: Path) -> None:
    arguments = ("--rate", "20", "--duration", "3", "--shape", "spike", "--warmup", "0.5")
    lengths = ("--input-tokens", "60", "--output-tokens", "4", "--no-self-check")
    done = _load(*arguments, *lengths, "--processes", "2", "--salt", "a", url=url, out=tmp_path)
    report = _settled(done, tmp_path)
    assert [stage["name"] for stage in report["stages"]] == ["before", "spike", "after"]
    merged = read_recording(tmp_path)
    assert merged.processes == 3  # the master keeps the stages
    asked = [(r.session, r.turn) for r in merged.requests]
    assert len(asked) == len(set(asked)), "two processes must not send the same text"
    assert {session[0] for session, _ in asked if session} == {"0", "1"}
    assert all(r.intended is not None and r.started >= r.intended for r in merged.requests)
    assert report["median_dispatch_delay_ms"] < 50


def test_every_request_in_flight_at_the_end_is_waited_for(tmp_path: Path) -> None:
    with deterministic_server("--ttft-ms", "800", "--itl-ms", "50", "--model", "chat") as slow:
        arguments = ("--duration", "1", "--warmup", "0")
        report = _settled(_load(*QUICK, *arguments, url=slow, out=tmp_path), tmp_path)
    assert report["failed"] == 0
    assert set(report["output_lens"]) == {8}
    assert report["completed"] >= 3 and report["duration"] > 1.1


def test_look_ups_that_fail_are_a_miss_and_answers_are_as_long_as_said(
    url: str, tmp_path: Path
) -> None:
    """The server has one model: embeddings and rerank of retrieval traffic find none."""
    arguments = ("--concurrency", "2", "--requests", "6", "--traffic", "retrieval")
    done = _load(*arguments, "--output-tokens", "4", "--no-self-check", url=url, out=tmp_path)
    assert done.exit_code in (1, 3), done.output
    report = _report(tmp_path)
    missed = {c["metric"] for c in report["verdict"]["checks"] if not c["met"]}
    assert missed == {"failed embed calls", "failed rerank calls"}
    assert report["completed"] == 6
    chats = [r for r in read_recording(tmp_path).requests if r.name == "chat"]
    assert [r.prompt_tokens for r in chats] == [r.asked_input for r in chats]


def test_a_retrieval_client_embeds_reranks_and_asks(tmp_path: Path) -> None:
    models = ("--model", "chat", "--beside", "embed", "--beside", "rerank")
    with deterministic_server("--ttft-ms", "20", "--itl-ms", "4", *models) as whole:
        arguments = ("--concurrency", "2", "--requests", "6", "--traffic", "retrieval")
        lengths = ("--output-tokens", "4", "--no-self-check")
        done = _load(*arguments, *lengths, url=whole, out=tmp_path)
    report = _settled(done, tmp_path)
    assert report["verdict"]["met"], report["verdict"]
    sides = report["side_calls"]
    asked = [(sides[name]["completed"], sides[name]["failed"]) for name in ("embed", "rerank")]
    assert asked == [(6, 0), (6, 0)] and report["completed"] == 6
    calls = [record.name for record in read_recording(tmp_path).requests]
    assert calls[0] == "embed" and calls.index("rerank") < calls.index("chat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--requests", "0"), "0 is not in the range"),
        (("--rate", "0"), "0.0 is not in the range"),
        (("--rate", "1e7", "--output-tokens", "100"), "token events a second"),
        (("--rate", "5", "--concurrency", "5"), "not both"),
        (("--requests", "5", "--duration", "5"), "not both"),
        (("--model", "chta"), 'does not serve "chta" (did you mean "chat"?)'),
        (("--input-tokens", "2000000", "--output-tokens", "5"), "the model takes"),
        (("--base-url", "127.0.0.1:8080"), "must be like http://"),
        (("--base-url", "http://127.0.0.1:9"), "cannot reach http://127.0.0.1:9"),
        (("--api-key", "sk-wrong"), "the key was refused"),
        (("--trace", "nowhere.jsonl", "--requests", "1"), "cannot read the trace"),
        (("--trace", "nowhere.jsonl", "--shape", "step"), "--trace or --shape, not both"),
        (("--baseline", "nowhere.json"), "cannot read the report"),
        (("--out", "/proc/nowhere"), "/proc/nowhere"),
        (("--shape", "ramp", "--requests", "5"), "say --duration"),
    ],
)
def test_bad_input_is_one_clear_message(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(ROOT)
    usual = ("--base-url", url, "--api-key", KEY, "--out", str(tmp_path / "out"), "--no-self-check")
    with pytest.raises((FreeholdError, click.ClickException)) as refused:
        cli.main(["load", "local", *usual, *arguments], standalone_mode=False)
    assert refused.value.exit_code == 2
    said = (
        refused.value.message
        if isinstance(refused.value, click.ClickException)
        else str(refused.value)
    )
    assert message in said
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_folder_without_a_test_is_no_run_to_report_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(FreeholdError, match=r"cannot read the load test .*test.json"):
        cli.main(["load", "local", "--again", str(tmp_path)], standalone_mode=False)


def test_a_server_that_dies_ends_the_run_and_keeps_what_was_measured(tmp_path: Path) -> None:
    options = ("--ttft-ms", "20", "--itl-ms", "4", "--model", "chat")
    with deterministic_server(*options, "--fault", "die", "--fault-after", "15") as dying:
        done = _load(*QUICK, "--duration", "60", "--warmup", "0", url=dying, out=tmp_path)
    assert done.exit_code == 3, done.output
    report = _report(tmp_path)
    assert not report["valid"]
    assert "stopped answering" in report["invalid_reasons"][0]
    assert 12 <= report["completed"] <= 15 and report["failed"] >= 20
    assert report["duration"] < 40


def test_broken_streams_and_prompts_found_in_a_cache_are_told(tmp_path: Path) -> None:
    options = ("--ttft-ms", "20", "--itl-ms", "4", "--model", "chat", "--report-cached", "50")
    with deterministic_server(*options, "--fault", "broken", "--fault-after", "8") as broken:
        done = _load(*QUICK, "--requests", "12", url=broken, out=tmp_path)
    assert done.exit_code == 3, done.output
    report = _report(tmp_path)
    assert report["failed"] and report["error_kinds"] == {"broken stream": report["failed"]}
    assert not report["verdict"]["met"]
    assert any("came from a cache" in why for why in report["invalid_reasons"])


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_was_measured(
    url: str, measured: Path, tmp_path: Path
) -> None:
    """No file may grow beyond 20 kB, as on a full disk: neither records nor the report."""
    command = [sys.executable, "-c", "from freehold.cli.main import run; run()", "load", "local"]
    command += ["--base-url", url, "--api-key", KEY, "--out", str(tmp_path), *QUICK]
    limited = 'ulimit -f 20; exec "$@"'  # in blocks of 1024 bytes
    done = subprocess.run(
        ["bash", "-c", limited, "bash", *command, "--duration", "60", "--warmup", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "File too large" in done.stderr and "--again" in done.stderr
    again = _load("--again", str(tmp_path), url=url, out=tmp_path)
    assert again.exit_code == 3, again.output
    report = _report(tmp_path)
    assert any("damaged" in why for why in report["invalid_reasons"])
    assert 10 < report["completed"] < 1000


def test_an_interrupted_run_is_reported_and_marked(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from freehold.cli.main import run; run()", "load", "local"]
    command += ["--base-url", url, "--api-key", KEY, "--out", str(tmp_path), *QUICK]
    process = subprocess.Popen(
        [*command, "--duration", "60", "--warmup", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(read_recording(tmp_path).requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to the whole group
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    report = _report(tmp_path)
    assert "interrupted" in report["invalid_reasons"]
    assert report["completed"] >= 3


def test_a_report_is_made_again_and_reports_are_compared(
    url: str, measured: Path, tmp_path: Path
) -> None:
    base = _load(*QUICK, "--requests", "8", "--baseline", str(measured), url=url, out=tmp_path)
    assert base.exit_code in (0, 1, 3), base.output
    checks = _report(tmp_path)["verdict"]["checks"]
    assert "baseline" in {check["source"] for check in checks}
    (tmp_path / "report.json").unlink()
    again = _load("--again", str(tmp_path), url=url, out=tmp_path)
    assert again.exit_code in (0, 3), again.output
    assert _report(tmp_path)["completed"] == 8
    shown = _load("--compare", str(measured), "--compare", str(tmp_path), url=url, out=tmp_path)
    assert shown.exit_code == 0 and "tok/s per $/h" in shown.output
    assert f"{_report(measured)['median_ttft_ms']:.4g}" in shown.output
    assert (tmp_path / TEST).is_file()


def _locust(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", *arguments]
    env = {**os.environ, "FREEHOLD_API_KEY": KEY}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False
    )


def test_plain_locust_runs_the_locustfile(url: str, tmp_path: Path) -> None:
    load = ("-u", "2", "-r", "2", "-t", "2s", "--host", url, "--model", "chat")
    lengths = ("--input-tokens", "50", "--output-tokens", "5", "--out", str(tmp_path))
    done = _locust("-f", "loadtests/locustfile.py", "--headless", *load, *lengths)
    assert done.returncode == 0, done.stderr
    assert "time to first token" in done.stdout + done.stderr
    merged = read_recording(tmp_path)
    assert merged.requests and all(r.ok or r.cancelled for r in merged.requests)
    assert any("calibration" in note for note in merged.notes)


def test_plain_locust_reads_the_tiers_files() -> None:
    files = ",".join(f"loadtests/tiers/{tier}.py" for tier in ("small", "medium", "large"))
    done = _locust("-f", files, "--list")
    assert done.returncode == 0, done.stderr
    assert {"SmallTier", "MediumTier", "LargeTier"} <= set((done.stdout + done.stderr).split())


def test_plain_locust_without_a_host_says_what_is_missing() -> None:
    done = _locust("-f", "loadtests/locustfile.py", "--headless")
    assert done.returncode == 2
    assert "freehold: --host says where" in done.stderr
