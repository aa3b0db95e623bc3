"""Bringing a stack up, changing it, taking it down: real processes, real supervisor."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from freehold.config.errors import FreeholdError
from freehold.local import procfs, runtime
from freehold.local.process import HealthCheck


def test_order_and_parallel_start(stack, tmp_path):
    """`b` dies unless `a` listens already; `c` and `d` listen only when both run at once."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    result = runtime.apply(
        [
            stack.spec("b", f"needs={stack.port('a')}", after=("a",)),
            stack.spec("a", "slow=0.4"),
            stack.spec("c", f"meet={meeting}", after=("b",)),
            stack.spec("d", f"meet={meeting}", after=("b",)),
        ],
        stack.path,
    )
    assert result.started == ("b", "a", "c", "d")
    rows = runtime.status(stack.path)
    assert [(row.name, row.phase) for row in rows] == [
        (name, "healthy") for name in ("supervisor", "b", "a", "c", "d")
    ]
    assert stack.row("a").ready_seconds >= 0.4
    assert all(row.pid and row.memory_gib > 0 and Path(row.log).exists() for row in rows)


def test_same_specs_change_nothing(stack):
    specs = [stack.spec("a"), stack.spec("b")]
    runtime.apply(specs, stack.path)
    pids = {name: row.pid for name, row in stack.rows().items()}
    result = runtime.apply(specs, stack.path)
    assert (result.started, result.stopped, result.unchanged) == ((), (), ("a", "b"))
    assert {name: row.pid for name, row in stack.rows().items()} == pids


def test_only_what_differs_restarts(stack):
    runtime.apply([stack.spec("a"), stack.spec("b", after=("a",)), stack.spec("c")], stack.path)
    before = {name: row.pid for name, row in stack.rows().items()}
    changed = stack.spec("a", env={"SOMETHING": "else"})
    result = runtime.apply([changed, stack.spec("b", after=("a",)), stack.spec("d")], stack.path)
    assert (result.started, result.stopped, result.unchanged) == (("a", "d"), ("c",), ("b",))
    after = {name: row.pid for name, row in stack.rows().items()}
    assert after["b"] == before["b"] and after["supervisor"] == before["supervisor"]
    assert after["a"] != before["a"] and "c" not in after
    assert procfs.ticks(before["c"]) is None


@pytest.mark.parametrize("reload", ["hup", "files"])
def test_a_changed_file_is_brought_to_the_running_process(stack, eventually, tmp_path, reload):
    path = tmp_path / "served.txt"
    spec = stack.spec("a", f"echo={path}", files={str(path): "one"}, reload=reload)
    runtime.apply([spec], stack.path)
    pid = stack.pid("a")
    assert path.stat().st_mode & 0o777 == 0o600

    runtime.apply([replace(spec, files={str(path): "two"})], stack.path)
    assert stack.pid("a") == pid
    assert eventually(lambda: path.read_text() == "two")
    if reload == "hup":
        assert eventually(lambda: urllib.request.urlopen(spec.url, timeout=2).read() == b"two")


def test_a_changed_file_restarts_by_default(stack, tmp_path):
    path = tmp_path / "served.txt"
    spec = stack.spec("a", f"echo={path}", files={str(path): "one"})
    runtime.apply([spec], stack.path)
    result = runtime.apply([replace(spec, files={str(path): "two"})], stack.path)
    assert result.started == ("a",)
    assert urllib.request.urlopen(spec.url, timeout=2).read() == b"two"


def test_down_leaves_nothing(stack, eventually):
    """Not even of a process that ignores SIGTERM, maps shared memory, has children of all kinds."""
    segment = f"freehold-test-{os.getpid()}"
    other = Path("/dev/shm", f"{segment}-named-by-the-spec")
    runtime.apply(
        [
            stack.spec("a", "deaf", "children", "socket", f"shm={segment}", stop_seconds=0.3),
            stack.spec("b", shared_memory=(f"{segment}-named*",)),
        ],
        stack.path,
    )
    other.touch()
    assert (stack.state.private("a") / "control.sock").exists()
    eventually(lambda: stack.record("a").get("shm") == [segment])
    assert (
        len(stack.members()) == 4
    )  # each main process, the own-session child and the wiped one's cwd
    assert runtime.down(stack.path) == ["supervisor", "a", "b"]
    assert stack.leaves_nothing()
    assert not Path("/dev/shm", segment).exists() and not other.exists()
    assert sorted(p.name for p in stack.path.iterdir()) == ["logs", "supervisor.lock", "up.lock"]
    assert runtime.down(stack.path) == []


def test_a_segment_that_somebody_else_maps_stays(stack, eventually):
    segment = f"freehold-test-shared-{os.getpid()}"
    specs = [stack.spec("a", f"shm={segment}"), stack.spec("b", f"shm={segment}")]
    runtime.apply(specs, stack.path)
    eventually(lambda: stack.record("a").get("shm") or stack.record("b").get("shm"))
    runtime.apply(specs[:1], stack.path)
    assert Path("/dev/shm", segment).exists()
    runtime.down(stack.path)
    assert not Path("/dev/shm", segment).exists()


def test_a_process_that_cannot_start(stack):
    """The message has the name, the exit code and the log's end without secrets; all is undone."""
    spec = stack.spec("chat-0", "die", env={"KEY": "sk-secret"}, secret_env=("KEY",))
    with pytest.raises(FreeholdError) as caught:
        runtime.apply([stack.spec("redis"), spec], stack.path)
    message = str(caught.value)
    assert "chat-0 did not come up: it ended with exit code 5 after" in message
    assert "ValueError: the weights are corrupt, key ***" in message and "sk-secret" not in message
    assert message.endswith("The stack was stopped again.")
    assert stack.leaves_nothing()


def test_a_process_that_is_never_healthy(stack):
    with pytest.raises(FreeholdError, match=r"was not healthy after 1 s \(GET .* refused\)"):
        runtime.apply([stack.spec("a", "slow=60", startup_seconds=1)], stack.path)
    assert stack.leaves_nothing()


def test_a_failed_change_goes_back_to_what_was(stack, eventually):
    good = [stack.spec("a"), stack.spec("b")]
    runtime.apply(good, stack.path)
    kept = stack.pid("b")
    with pytest.raises(FreeholdError, match="The stack is as it was before"):
        runtime.apply([stack.spec("a", "die"), stack.spec("b"), stack.spec("c")], stack.path)
    assert stack.pid("b") == kept
    assert "c" not in stack.rows()
    assert eventually(lambda: stack.row("a").healthy)


def test_state_is_never_half_written(stack):
    """A reader that looks all the time sees whole JSON, each time."""
    stop, seen, broken = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                data = json.loads(stack.state.state.read_bytes())
                seen.update((r["name"], r["phase"]) for r in data["processes"])
            except FileNotFoundError:
                continue
            except (ValueError, KeyError) as error:
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        runtime.apply([stack.spec(name) for name in "abcd"], stack.path)
        runtime.apply([stack.spec(name, env={"N": "2"}) for name in "abcd"], stack.path)
    finally:
        stop.set()
        reader.join()
    assert not broken
    assert {("a", "starting"), ("a", "stopping"), ("d", "healthy")} <= seen


def test_processes_get_a_small_environment(stack, monkeypatch, eventually):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for engines")
    runtime.apply([stack.spec("a", env={"MINE": "yes"})], stack.path)
    environ = Path(f"/proc/{stack.pid('a')}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in environ if entry}
    assert {"MINE", "PATH", "TMPDIR", "FREEHOLD_PROCESS"} <= names
    assert not names & {"PYTHONDONTWRITEBYTECODE", "AWS_SECRET_ACCESS_KEY"}


def test_no_check_means_healthy_while_it_runs(stack):
    runtime.apply([stack.spec("a", health=HealthCheck())], stack.path)
    assert stack.row("a").healthy


def test_socket_paths_stay_short(stack):
    """With a process name of 24 characters and the UUID that vLLM appends."""
    assert len(str(stack.state.private("a" * 24) / ("u" * 36))) < 108
