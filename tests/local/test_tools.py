"""Programs from Debian packages, for real, and what happens where there are none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from freehold.config.errors import FreeholdError
from freehold.local import debian, procfs, runtime, tools
from freehold.local.process import HealthCheck

TOOLS = Path(__file__).parents[2] / ".freehold" / "tools"
"""Where `make up` keeps them: fetched once for all tests and stacks."""


@pytest.fixture(scope="module")
def redis() -> Path:
    try:
        return tools.find_tools(["redis-server"], TOOLS, print)["redis-server"]
    except FreeholdError as error:
        pytest.skip(str(error))


def redis_spec(stack, program: Path):
    port = stack.port("redis")
    return stack.spec(
        "redis",
        argv=(str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
        health=HealthCheck(tcp=("127.0.0.1", port), interval=0.2),
        url=None,
    )


def test_redis_runs_restarts_and_stops(stack, eventually, redis):
    runtime.apply([redis_spec(stack, redis)], stack.path)
    killed = stack.kill("redis")
    eventually(lambda: stack.row("redis").healthy and stack.row("redis").pid != killed)
    runtime.down(stack.path)
    assert stack.leaves_nothing()


def test_redis_is_found_though_it_wipes_its_environment(stack, redis):
    """Programs that set their title destroy /proc/<pid>/environ; the working folder still tells."""
    runtime.apply([redis_spec(stack, redis)], stack.path)
    pid = stack.pid("redis")
    stack.kill("supervisor")
    stack.state.state.unlink()
    assert stack.row("redis").orphans == (pid,)
    runtime.down(stack.path)
    assert procfs.ticks(pid) is None


@pytest.fixture
def bare(monkeypatch) -> None:
    """A machine that has none of the programs."""
    monkeypatch.setattr(tools, "_on_system", lambda name: None)


@pytest.mark.skipif(not debian.available(), reason="needs apt-get and dpkg")
def test_a_fetched_library_comes_with_its_environment(bare, tmp_path):
    lines: list[str] = []
    try:
        found = tools.find_tools(["libnuma.so.1"], tmp_path, lines.append)
    except FreeholdError as error:
        assert "Could not download" in str(error)  # no network: at least it says so
        pytest.skip(str(error))
    path = found["libnuma.so.1"]
    assert path.is_relative_to(tmp_path) and path.exists()
    assert lines == [f"fetching libnuma.so.1 (packages libnuma1) into {tmp_path}"]
    environment = tools.library_environment(found)
    assert environment == {"LD_LIBRARY_PATH": str(path.parent)}
    assert tools.find_tools(["libnuma.so.1"], tmp_path, lines.append) == found
    assert len(lines) == 1  # the second time it is there


def test_elsewhere_it_names_the_line_to_run(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, **_: name if name == "dnf" else None)
    with pytest.raises(
        FreeholdError, match=r"redis-server is missing.*Run: sudo dnf install valkey"
    ):
        tools.find_tools(["redis-server"], tmp_path, print)


def test_a_broken_tool_is_not_used(bare, tmp_path, monkeypatch):
    """A half-unpacked program, say: it is fetched again; here there is nothing to fetch from."""
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(debian, "available", lambda: False)
    with pytest.raises(FreeholdError, match="redis-server is missing"):
        tools.find_tools(["redis-server"], tmp_path, print)
    broken.write_text("#!/bin/sh\nexit 0\n")
    assert tools.find_tools(["redis-server"], tmp_path, print) == {"redis-server": broken}


def test_a_package_that_cannot_be_had(tmp_path, monkeypatch):
    """apt's own words, and what to do."""
    monkeypatch.setattr(
        debian.Unpacker,
        "_apt",
        lambda self, *_, **__: subprocess.CompletedProcess([], 100, "", "E: Failed to fetch"),
    )
    with pytest.raises(FreeholdError, match=r"(?s)Could not download.*E: Failed.*sudo apt-get"):
        debian.Unpacker(tmp_path).unpack(["redis-server"])


def test_missing_libraries_are_found(tmp_path):
    assert debian.missing_libraries(Path("/bin/sh").resolve(), "") == []


def test_wrappers_keep_the_process_id(tmp_path):
    """Signals must reach the program, not a shell in front of it."""
    wrapper = tmp_path / "bin" / "sleep"
    tools._wrap(Path("/bin/sleep").resolve(), wrapper, str(tmp_path))
    process = subprocess.Popen([str(wrapper), "600"])
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=10) == -signal.SIGTERM
