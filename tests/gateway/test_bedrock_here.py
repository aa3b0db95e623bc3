"""`freehold gateway` and `freehold up` of a stack whose models Bedrock serves, before a stand-in for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

from .bedrock_stub import BedrockStub
from .running import until
from .test_bedrock import MODEL, RIGHT

pytestmark = pytest.mark.long  # whole commands
FREEHOLD = Path(sys.executable).with_name("freehold")
STACK = """
config:
  freehold:stack:
    target: {{kind: bedrock, region: us-east-2, endpoint: "https://127.0.0.1:{endpoint}"}}
    pools:
      - name: chat
        role: generate
        model: {model}
        demand: {{requests_per_minute: 25, input_tokens: 4000, output_tokens: 300}}
    gateway: {{port: {port}}}
"""


class Here:
    """A checkout with one stack, `hosted`, and the commands run in it."""

    def __init__(self, root: Path, stub: BedrockStub) -> None:
        self.root, self.stub, self.port = root, stub, free_ports(4)[0]
        text = STACK.format(endpoint=stub.port, model=MODEL, port=self.port)
        (root / "Pulumi.hosted.yaml").write_text(text)
        (root / "loadtests").symlink_to(Path(__file__).parents[2] / "loadtests")

    def environment(self, credentials: dict[str, str]) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {
            **clean,
            **credentials,
            "HOME": str(self.root),
            "SSL_CERT_FILE": self.stub.trusted_ca,
        }

    def run(self, *arguments: str, **credentials: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(FREEHOLD), *arguments],
            cwd=self.root,
            env=self.environment(credentials),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ask(self) -> httpx.Response:
        key = (self.root / ".freehold" / "hosted" / "api-key").read_text().strip()
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json={"model": "chat", "messages": [{"role": "user", "content": "Hello"}]},
            headers={"authorization": f"Bearer {key}"},
            timeout=20,
        )

    def written(self) -> str:
        """All that the commands left on the disk."""
        files = [path for path in (self.root / ".freehold").rglob("*") if path.is_file()]
        return "\n".join(path.read_text(errors="replace") for path in files)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    folder = tmp_path / "stub"
    folder.mkdir()
    with BedrockStub(folder) as stub:
        here = Here(tmp_path, stub)
        try:
            yield here
        finally:
            here.run("down", "hosted")


@contextmanager
def in_the_foreground(here: Here, credentials: dict[str, str]) -> Iterator[Path]:
    """Gives the file of what it prints."""
    output = here.root / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(FREEHOLD), "gateway", "hosted"],
            cwd=here.root,
            env=here.environment(credentials),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield output
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def command_lines() -> str:
    """Of every process of this machine."""
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(found).decode(errors="replace")


def test_the_gateway_command_signs_and_writes_no_credential(here: Here) -> None:
    with in_the_foreground(here, RIGHT) as file:
        until(lambda: "Ctrl-C stops it." in file.read_text(), seconds=60)
        assert here.ask().status_code == 200
        lines, written, output = command_lines(), here.written(), file.read_text()
    assert f"chat (generate, signed): {MODEL} at 127.0.0.1:{here.stub.port}" in output
    assert "picker" not in output
    for value in RIGHT.values():
        assert value not in lines and value not in written and value not in output


def test_up_answers_and_other_credentials_take_their_place(here: Here) -> None:
    """All that `up` needs to know of credentials it takes from its own environment, each time."""
    wrong = {**RIGHT, "AWS_SECRET_ACCESS_KEY": "a-wrong-one"}
    first = here.run("up", "hosted", "--no-smoke", **wrong)
    assert first.returncode == 0, first.stdout + first.stderr
    assert here.ask().status_code == 403

    again = here.run("up", "hosted", **RIGHT)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "other AWS credentials than before" in again.stdout
    assert f"chat (generate): {MODEL}, by Bedrock in us-east-2" in again.stdout
    assert here.ask().status_code == 200
    listed: list[dict[str, Any]] = json.loads(here.run("status", "hosted", "--json").stdout)[
        "processes"
    ]
    assert [process["name"] for process in listed] == ["supervisor", "gateway"]
    for value in (*RIGHT.values(), "a-wrong-one"):
        assert value not in here.written()


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ({}, "no AWS credentials"),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ({"AWS_PROFILE": "work"}, "under [work] in"),
    ],
)
def test_without_credentials_nothing_starts(
    here: Here, credentials: dict[str, str], said: str
) -> None:
    for command in ("up", "gateway"):
        done = here.run(command, "hosted", **credentials)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_what_a_hosted_stack_has_not_is_refused(here: Here) -> None:
    for arguments, said in (
        (("up", "hosted", "--engine", "simulated"), "leave --engine out"),
        (("gateway", "hosted", "--workers", "chat=http://127.0.0.1:1"), "leave --workers out"),
        (("rehearse", "hosted"), "cannot be rehearsed"),
    ):
        done = here.run(*arguments, **RIGHT)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_the_load_test_runs_through_it_at_the_demand_s_rate(here: Here) -> None:
    assert here.run("up", "hosted", "--no-smoke", **RIGHT).returncode == 0
    out = here.root / "load"
    done = here.run(
        *("load", "hosted", "--requests", "6", "--rate", "6", "--traffic", "fixed"),
        *("--input-tokens", "40", "--output-tokens", "8", "--no-self-check", "--out", str(out)),
    )
    report = json.loads((out / "report.json").read_text())
    assert report["completed"] == 6 and report["failed"] == 0, done.stdout + done.stderr
    sent = [json.loads(arrived.body) for arrived in here.stub.arrived]
    assert all("ignore_eos" not in body for body in sent)
    plain = here.run("load", "hosted", "--duration", "1", "--out", str(here.root / "plain"))
    assert "rate 0.416667 requests a second" in plain.stdout or "0.4166" in plain.stdout, (
        plain.stdout
    )
