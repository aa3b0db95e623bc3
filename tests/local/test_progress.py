"""What a person sees while a stack starts."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from freehold.local.progress import Progress
from freehold.local.status import ProcessStatus


def row(name: str) -> ProcessStatus:
    return ProcessStatus(name, "engine", "chat", 1, 8000, None, "waiting", detail="for redis")


def test_in_a_pipe_each_change_is_one_line():
    output = io.StringIO()
    waiting, other = row("chat-0"), replace(row("redis"), phase="starting", since=None)
    ready = replace(other, phase="healthy", ready_seconds=1.25)
    with Progress(Console(file=output, width=200)) as progress:
        progress([waiting, other])
        progress([waiting, other])
        progress([waiting, ready])
        progress([replace(waiting, phase="failed", detail="ended with exit code 1"), ready])
    lines = [line.split(" s  ", 1)[1].split() for line in output.getvalue().splitlines()]
    assert lines == [
        ["chat-0", "waiting", "for", "redis"],
        ["redis", "starting"],
        ["redis", "healthy", "1.2", "s"],
        ["chat-0", "failed", "ended", "with", "exit", "code", "1"],
    ]


def test_on_a_terminal_lines_change_in_place():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80)
    with Progress(console) as progress:
        progress([row("chat-0"), row("redis")])
        progress([replace(row("chat-0"), phase="healthy", ready_seconds=22.0), row("redis")])
    assert "\x1b[" in output.getvalue()
    last = output.getvalue().rsplit("chat-0", 1)[1]
    assert "healthy" in last and "22.0 s" in last and "redis" in last
