"""What holds before, during and after an attack."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.gateway.endpoints import ENDPOINTS

from ..running import KEY, LEFT, NARROW, POLICIES, Bench, Engines
from ..stub_engine import Seen
from .strict_engine import StrictEngine
from .wire import CHAT, Answer, request, send

KEYS = {"acme": KEY, "left": LEFT, "narrow": NARROW}
GENERATE = (*POLICIES, "lora")


def examples(count: int) -> int:
    """How many a search tries: so many times FREEHOLD_FUZZ."""
    return count * int(os.environ.get("FREEHOLD_FUZZ", "1"))


@contextmanager
def strict_engines(sealed: bool) -> Iterator[Engines]:
    def engine(name: str, models: tuple[str, ...], paths: tuple[str, ...]) -> StrictEngine:
        return StrictEngine(name, models, paths=paths, sealed=sealed)

    engines = Engines(
        [engine(f"chat-{i}", GENERATE, ENDPOINTS["generate"]) for i in range(4)],
        engine("embed-0", ("embed",), ENDPOINTS["embed"]),
        engine("rerank-0", ("rerank",), ENDPOINTS["rerank"]),
    )
    engines.start()
    try:
        yield engines
    finally:
        engines.stop()


def arrived(bench: Bench) -> list[Seen]:
    """What the engines got since this was asked last; what they found wrong with it fails here."""
    requests, faults = [], []
    for engine in bench.engines.all():
        requests += engine.seen
        engine.seen.clear()
        if isinstance(engine, StrictEngine):
            faults += engine.faults
            engine.faults.clear()
    assert not faults, faults
    return requests


def expect_sound(answers: list[Answer]) -> None:
    """No 5xx, and every refusal is OpenAI's error object."""
    for answer in answers:
        assert answer.status < 500, answer
        if answer.status >= 400:
            assert answer.headers["content-type"] == "application/json", answer
            error = json.loads(answer.body)["error"]
            assert set(error) == {"message", "type", "param", "code"}, answer


def ask(bench: Bench, body: bytes, path: str = CHAT, tenant: str = "acme") -> Answer:
    """One request, soundly answered; what arrives the engines look at by themselves."""
    lines = (f"Authorization: Bearer {KEYS[tenant]}", f"X-Request-Id: {tenant}:1")
    data = request(path, "POST", "HTTP/1.1", *lines, body=body, without=["Authorization"])
    (answer,) = send(bench.gateway.port, data)
    expect_sound([answer])
    return answer


def unharmed(bench: Bench) -> None:
    """Nothing has reached an engine that must not, and a good request is answered as before."""
    arrived(bench)
    (answer,) = send(bench.gateway.port, request())
    assert answer.status == 200, answer
    assert len(arrived(bench)) == 1
    picker = bench.picker_process
    logs = [bench.folder / "envoy.log", *([picker.log] if picker else [])]
    if picker:
        assert picker.process is not None
        assert picker.process.poll() is None, picker.log.read_text()[-2000:]
    crashes = [line for log in logs for line in _new_lines(log) if _CRASH.search(line)]
    assert not crashes, crashes


_CRASH = re.compile(r"\[(error|critical)\]|Caught |Backtrace|script log|Traceback|^panic|goroutine")
"""In Envoy's log from "error" on, the words of its crash handler, Python's, and Go's."""
_seen: dict[Path, int] = {}


def _new_lines(log: Path) -> list[str]:
    """Since it was read last."""
    text = log.read_text(errors="replace")
    new = text[_seen.get(log, 0) :]
    _seen[log] = len(text)
    return new.splitlines()
