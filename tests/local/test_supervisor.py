"""Accidents: killed, frozen and crashing processes, supervisors included."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from freehold.config.errors import FreeholdError
from freehold.local import procfs, runtime
from freehold.local.process import HealthCheck
from freehold.local.statedir import read_json, write_json


def test_processes_outlive_a_killed_supervisor_and_are_taken_over(stack):
    specs = [stack.spec("a"), stack.spec("b", after=("a",))]
    runtime.apply(specs, stack.path)
    before = {name: row.pid for name, row in stack.rows().items()}
    stack.kill("supervisor")

    rows = stack.rows()
    assert (rows["supervisor"].phase, rows["supervisor"].pid) == ("stopped", None)
    assert rows["a"].healthy and rows["b"].healthy

    result = runtime.apply(specs, stack.path)
    assert result.unchanged == ("a", "b")
    after = {name: row.pid for name, row in stack.rows().items()}
    assert after.pop("supervisor") != before.pop("supervisor")
    assert after == before


def test_a_new_supervisor_starts_again_what_died_meanwhile(stack):
    specs = [stack.spec("a"), stack.spec("b")]
    runtime.apply(specs, stack.path)
    stack.kill("supervisor")
    dead, kept = stack.kill("a"), stack.pid("b")
    assert stack.row("a").phase == "stopped"
    runtime.apply(specs, stack.path)
    assert stack.pid("a") != dead and stack.pid("b") == kept


def test_down_works_without_a_supervisor(stack):
    segment = f"freehold-test-orphaned-{os.getpid()}"
    runtime.apply([stack.spec("a", "children"), stack.spec("b", f"shm={segment}")], stack.path)
    stack.kill("supervisor")
    assert runtime.down(stack.path) == ["a", "b"]
    assert stack.leaves_nothing() and not Path("/dev/shm", segment).exists()


def test_down_works_when_the_state_is_lost_too(stack):
    runtime.apply([stack.spec("a", "children")], stack.path)
    stack.kill("supervisor")
    stack.state.state.unlink()
    stack.state.desired.unlink()
    assert len(stack.row("a").orphans) == 3
    runtime.down(stack.path)
    assert stack.leaves_nothing()


def test_up_with_a_lost_state_starts_afresh(stack):
    """Nobody can say with which settings they were started: replaced, not doubled."""
    runtime.apply([stack.spec("a")], stack.path)
    lost = stack.pid("a")
    stack.kill("supervisor")
    stack.state.state.write_text("{half a file")
    runtime.apply([stack.spec("a")], stack.path)
    assert procfs.ticks(lost) is None and stack.row("a").healthy


def test_a_killed_process_comes_back_and_its_orphans_go(stack, eventually):
    segment = f"freehold-test-restart-{os.getpid()}"
    runtime.apply([stack.spec("a", "children", f"shm={segment}")], stack.path)
    before = set(stack.members())
    eventually(lambda: stack.record("a").get("shm") == [segment])
    assert len(before) == 3
    stack.kill("a")
    eventually(lambda: stack.row("a").healthy and stack.row("a").restarts == 1)
    after = set(stack.members())
    assert len(after) == 3 and not before & after


def test_semaphores_go_although_who_would_remove_them_was_killed_too(stack, eventually):
    """Also those of a second life."""
    runtime.apply([stack.spec("a", "semaphore")], stack.path)
    seen: set[str] = set()
    for restarts in (1, 2):
        made = eventually(lambda known=seen: set(stack.record("a").get("shm", [])) - known)
        assert all(Path("/dev/shm", name).exists() for name in made)
        procfs.kill(stack.members(), signal.SIGKILL)
        eventually(lambda n=restarts: stack.row("a").healthy and stack.row("a").restarts == n)
        assert not [name for name in made if Path("/dev/shm", name).exists()]
        seen = seen | made


def test_restarts_back_off(stack, eventually, tmp_path):
    """After the first life every start fails: each delay is twice the one before."""
    runtime.apply([stack.spec("a", f"lives={tmp_path / 'count'},1")], stack.path)
    stack.kill("a")
    delays: list[str] = []

    def seen_enough() -> bool:
        detail = stack.record("a").get("detail", "")
        delay = detail.rpartition("starts again in ")[2] if "starts again in" in detail else ""
        if delay and delay not in delays:
            delays.append(delay)
        return len(delays) == 4

    eventually(seen_enough)
    assert delays == ["0.25 s", "0.5 s", "1 s", "2 s"]
    row = stack.row("a")
    assert (row.phase, row.exit_code) == ("backoff", 3)


def test_a_frozen_process_is_unhealthy_then_replaced(stack, eventually):
    spec = stack.spec("a")
    check = replace(spec.health, timeout=0.2, failures=2, restart_after=1.0)
    runtime.apply([replace(spec, health=check)], stack.path)
    frozen = stack.pid("a")
    os.kill(frozen, signal.SIGSTOP)
    eventually(lambda: stack.record("a")["phase"] == "unhealthy")
    eventually(lambda: stack.row("a").healthy)
    assert stack.pid("a") != frozen


def test_a_process_frozen_at_down_is_stopped(stack):
    runtime.apply([stack.spec("a")], stack.path)
    os.kill(stack.pid("a"), signal.SIGSTOP)
    runtime.down(stack.path)
    assert stack.leaves_nothing()


def test_a_frozen_supervisor_is_replaced(stack, monkeypatch):
    monkeypatch.setattr(runtime, "SILENCE", 1.0)
    specs = [stack.spec("a")]
    runtime.apply(specs, stack.path)
    frozen, kept = stack.pid("supervisor"), stack.pid("a")
    os.kill(frozen, signal.SIGSTOP)
    runtime.apply(specs, stack.path)
    assert stack.pid("supervisor") != frozen and stack.pid("a") == kept


def test_sigterm_stops_the_stack(stack, eventually):
    runtime.apply([stack.spec("a")], stack.path)
    os.kill(stack.pid("supervisor"), signal.SIGTERM)
    assert eventually(stack.leaves_nothing)


def test_a_deleted_state_folder_stops_the_stack(stack, eventually):
    runtime.apply([stack.spec("a")], stack.path)
    subprocess.run(["rm", "-rf", str(stack.path)], check=True)
    assert eventually(stack.leaves_nothing)


def test_a_pid_of_an_earlier_boot_is_not_trusted(stack):
    """After a reboot the pid may belong to anybody: here to this very test."""
    runtime.apply([stack.spec("a")], stack.path)
    stack.kill("supervisor")
    pid = stack.kill("a")
    saved = read_json(stack.state.state)
    assert saved["processes"][0]["pid"] == pid
    saved["boot"] = "another"
    saved["processes"][0] |= {"pid": os.getpid(), "ticks": procfs.ticks(os.getpid())}
    write_json(stack.state.state, saved)
    assert stack.row("a").phase == "stopped"


CLIENT = """
import sys
sys.path[:0] = {path!r}
from freehold.local import runtime
from freehold.local.process import ProcessSpec
from freehold.local.progress import Progress
import json
specs = [ProcessSpec.from_json(item) for item in json.load(open({specs!r}))]
with Progress() as progress:
    runtime.apply(specs, {state!r}, progress)
"""


def _client(stack, tmp_path, specs) -> subprocess.Popen[str]:
    """`apply` in another process, as a terminal would run it."""
    file = tmp_path / "specs.json"
    write_json(file, [spec.to_json() for spec in specs])
    code = textwrap.dedent(CLIENT).format(path=sys.path, specs=str(file), state=str(stack.path))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_starting_leaves_nothing(stack, eventually, tmp_path, number):
    specs = [stack.spec("a"), stack.spec("b", "slow=60", "children"), stack.spec("c", after=("b",))]
    client = _client(stack, tmp_path, specs)
    eventually(lambda: stack.record("a").get("phase") == "healthy")
    eventually(lambda: len(stack.members()) == 4)
    os.killpg(client.pid, number)  # as a terminal does: to all of the foreground group
    output, _ = client.communicate(timeout=20)
    assert client.returncode != 0 and "KeyboardInterrupt" in output
    assert stack.leaves_nothing()


def test_ctrl_c_while_changing_goes_back(stack, eventually, tmp_path):
    runtime.apply([stack.spec("a")], stack.path)
    kept = stack.pid("a")
    client = _client(stack, tmp_path, [stack.spec("a"), stack.spec("b", "slow=60")])
    eventually(lambda: stack.record("b").get("phase") == "starting")
    os.killpg(client.pid, signal.SIGINT)
    client.communicate(timeout=20)
    assert set(stack.rows()) == {"supervisor", "a"} and stack.pid("a") == kept


def test_down_ends_an_up_under_way(stack, eventually, tmp_path):
    client = _client(stack, tmp_path, [stack.spec("a", "slow=60")])
    eventually(lambda: stack.record("a").get("phase") == "starting")
    runtime.down(stack.path)
    output, _ = client.communicate(timeout=20)
    assert "was changed or stopped by another command" in output
    assert stack.leaves_nothing()


def test_only_one_up_at_a_time(stack, eventually, tmp_path):
    client = _client(stack, tmp_path, [stack.spec("a", "slow=60")])
    eventually(lambda: stack.record("a").get("phase") == "starting")
    with pytest.raises(FreeholdError, match="Another `freehold up` is at work"):
        runtime.apply([stack.spec("b")], stack.path)
    runtime.down(stack.path)
    client.communicate(timeout=20)


def test_an_ordinary_user_needs_no_root(stack):
    """The whole life of a stack as `nobody`, by an interpreter that `nobody` may run."""
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    if os.geteuid() != 0 or python is None:
        pytest.skip("an ordinary user already, as every other test shows, or no public interpreter")
    folder = Path(tempfile.mkdtemp(prefix="freehold-test-"))
    specs, state = folder / "specs.json", str(folder / "stack")
    write_json(specs, [stack.spec("a", argv=("sleep", "600"), health=HealthCheck()).to_json()])
    for path in (folder, specs):
        os.chown(path, 65534, 65534)
    code = textwrap.dedent(CLIENT).format(path=[], specs=str(specs), state=state)
    code += f"print(len(runtime.status({state!r})), runtime.down({state!r}))"
    try:
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", code],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            cwd="/",
            timeout=30,
            check=False,
        )
    finally:
        runtime.down(state)
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    assert "2 ['supervisor', 'a']" in done.stdout
