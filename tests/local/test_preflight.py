"""What cannot work is one clear message, before anything is started."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from freehold.config.errors import FreeholdError
from freehold.local import runtime


def refused(stack, *specs) -> str:
    with pytest.raises(FreeholdError) as caught:
        runtime.apply(specs, stack.path)
    assert not stack.members() and not stack.rows()
    message = str(caught.value)
    assert message.endswith(".") and "Traceback" not in message
    return message


def test_a_port_in_use_names_its_holder(stack):
    with socket.socket() as server:
        server.bind(("127.0.0.1", stack.port("a")))
        server.listen()
        message = refused(stack, stack.spec("a"))
    assert f"Port {stack.port('a')}, which a needs, is in use by" in message
    assert f"(process {os.getpid()})" in message


def test_an_extra_port_counts_as_well(stack):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        busy = server.getsockname()[1]
        assert f"Port {busy}" in refused(stack, stack.spec("a", extra_ports=(busy,)))


def test_our_own_ports_are_free_for_the_successor(stack):
    runtime.apply([stack.spec("a")], stack.path)
    runtime.apply([stack.spec("a", env={"N": "2"})], stack.path)
    moved = replace(stack.spec("a"), name="b")  # another process of ours takes the port over
    assert runtime.apply([moved], stack.path).started == ("b",)


def test_two_processes_with_one_port(stack):
    both = stack.spec("a"), replace(stack.spec("a"), name="b")
    assert f"Port {stack.port('a')} is given to both a and b" in refused(stack, *both)


def test_too_little_memory(stack):
    message = refused(stack, stack.spec("a", memory_gib=1e6))
    assert "1000000.0 GiB are needed (a 1000000.0 GiB ...)" in message


def test_too_little_shared_memory(stack):
    assert "docker run --shm-size" in refused(stack, stack.spec("a", shm_gib=1e6))


def test_a_folder_that_cannot_be_written(stack, tmp_path):
    """A file in its place: unlike a missing permission this stops root too."""
    (tmp_path / "stack").write_text("")
    with pytest.raises(FreeholdError, match=r"Cannot write to .*stack.*: (file exists|not a dir)"):
        runtime.apply([stack.spec("a")], stack.path)
    (tmp_path / "stack").unlink()


def test_a_full_disk(stack, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 * 2**20))
    assert "The disk is full: 1 MiB are free" in refused(stack, stack.spec("a"))


def test_a_disk_that_fills_while_writing(stack, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "no space left on device" in refused(stack, stack.spec("a"))


def test_a_missing_program(stack):
    spec = stack.spec("a", argv=("/nowhere/redis-server",))
    assert "a: the program /nowhere/redis-server does not exist" in refused(stack, spec)


def test_an_unknown_predecessor_and_a_circle(stack):
    assert "after ghost" in refused(stack, stack.spec("a", after=("ghost",)))
    circle = stack.spec("a", after=("b",)), stack.spec("b", after=("a",))
    assert "wait for each other" in refused(stack, *circle)


def test_a_run_folder_of_somebody_else(stack, monkeypatch):
    """In a shared /tmp another user could have put it there."""
    stack.state.run.mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(FreeholdError, match="belongs to somebody else"):
        runtime.apply([stack.spec("a")], stack.path)
