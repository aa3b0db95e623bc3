"""`freehold gateway` before engines that somebody else started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from gateway import running
from gateway.stub_engine import StubEngine
from ports import free_ports

from freehold.local.statedir import StateDir

FREEHOLD = Path(sys.executable).with_name("freehold")
KEY = "sk-of-this-test"
STACK = """
config:
  freehold:stack:
    target: {kind: local}
    pools:
      - {name: chat, role: generate, model: tiny-chat, aliases: [gpt-4o]}
      - {name: embed, role: embed, model: minilm}
"""

until = partial(running.until, seconds=60)  # each start is three processes


class Running:
    """The command in the foreground, as in a terminal of its own."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
        self._file = folder / "output"
        with self._file.open("wb") as output:
            self.process = subprocess.Popen(
                [str(FREEHOLD), "gateway", "mine", *arguments],
                cwd=folder,
                env={**os.environ, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._file.read_text()

    def wait(self) -> int:
        return self.process.wait(timeout=60)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.wait()


Start = Callable[..., Running]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.mine.yaml").write_text(STACK)
    return tmp_path


@pytest.fixture
def start(checkout: Path) -> Iterator[Start]:
    """Starts the command; whatever happens, nothing of it stays."""
    with ExitStack() as stack:

        def run(*arguments: str, **env: str) -> Running:
            running = Running(arguments, checkout, env)
            stack.callback(running.interrupt)
            return running

        yield run


@contextmanager
def engine(*models: str) -> Iterator[StubEngine]:
    stub = StubEngine("engine", models)
    stub.start()
    try:
        yield stub
    finally:
        stub.stop()


def url(stub: StubEngine) -> str:
    return f"http://127.0.0.1:{stub.port}"


def port() -> int:
    """The first of four: the gateway's, Envoy's admin, and the picker's two."""
    return free_ports(4)[0]


def ask(gateway: int, model: str, key: str = KEY) -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{gateway}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hello"}]},
        headers={"authorization": f"Bearer {key}"},
    )


def answers(gateway: int, key: str = KEY) -> bool:
    try:
        return ask(gateway, "chat", key).status_code == 200
    except httpx.TransportError:
        return False


def test_it_stands_before_engines_under_their_own_names(start: Start, checkout: Path) -> None:
    """An engine started without --served-model-name knows its model by its hub id."""
    with engine("Qwen/Qwen2.5-7B-Instruct") as first, engine("Qwen/Qwen2.5-7B-Instruct") as second:
        door = port()
        process = start(
            *("--workers", f"chat={url(first)},{url(second)}"),
            *("--port", str(door), "--api-key", "env:KEY"),
            KEY=KEY,
        )
        until(lambda: "Ctrl-C stops it" in process.output)
        until(lambda: answers(door))
        for model in ("chat", "gpt-4o", "Qwen/Qwen2.5-7B-Instruct"):
            for number in range(4):
                assert ask(door, model).status_code == 200, (model, number)
        listed = httpx.get(
            f"http://127.0.0.1:{door}/v1/models", headers={"authorization": f"Bearer {KEY}"}
        )
        names = {model["id"] for model in listed.json()["data"]}
        assert names == {"Qwen/Qwen2.5-7B-Instruct", "chat", "gpt-4o"}, "embed has no workers"
        assert {seen.json.get("model") for seen in (*first.seen, *second.seen) if seen.body} == {
            "Qwen/Qwen2.5-7B-Instruct"
        }
        assert ask(door, "chat", key="wrong").status_code == 401
        state = StateDir.at(checkout / ".freehold" / f"gateway-{door}")
        family = psutil.Process(process.process.pid).children(recursive=True)
        assert all(KEY not in " ".join(_argv(p)) for p in [*family, *psutil.process_iter()])
        assert process.interrupt() == 130
    assert f"http://127.0.0.1:{door}/v1" in process.output and "Traceback" not in process.output
    assert KEY not in process.output
    assert not state.run.exists()
    with pytest.raises(httpx.TransportError):
        ask(door, "chat")


def test_what_dies_is_said_and_started_again(start: Start) -> None:
    with engine("chat") as stub:
        door = port()
        process = start("--workers", f"chat={url(stub)}", "--port", str(door), "--api-key", KEY)
        until(lambda: "Ctrl-C stops it" in process.output)
        [envoy] = [p for p in psutil.process_iter() if _serves(p, door)]
        envoy.kill()
        until(lambda: envoy.pid not in psutil.pids() or envoy.status() == psutil.STATUS_ZOMBIE)
        until(lambda: answers(door))
        until(lambda: "gateway: healthy, 1 restarts so far" in process.output)
        assert process.interrupt() == 130
        assert "Traceback" not in process.output


def _serves(process: psutil.Process, port: int) -> bool:
    return any(f"gateway-{port}/envoy.json" in word for word in _argv(process))


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_an_engine_that_comes_later_is_taken_in(start: Start) -> None:
    with engine("chat") as stub:
        stub.stop()
        door = port()
        process = start("--workers", f"chat={url(stub)}", "--port", str(door), "--api-key", KEY)
        until(lambda: _status(door) == 503)
        stub.start()
        until(lambda: answers(door))
        assert "no answer yet" in process.output


def _status(door: int) -> int | None:
    try:
        return ask(door, "chat").status_code
    except httpx.TransportError:
        return None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", "chat"), ("POOL=URL", "chat=http://127.0.0.1:8000")),
        (("--workers", "chatt=http://a:1"), ('no pool "chatt"', 'did you mean "chat"?', "embed")),
        (("--workers", "chat=https://a:1"), ("http://host:port",)),
        (("--workers", "chat=http://a:1/v1"), ("without a path",)),
        (("--workers", "chat=http://a:99999"), ("no address",)),
        (("--api-key", "env:NOT_SET_ANYWHERE"), ("env:NOT_SET_ANYWHERE is empty",)),
        (("--api-key", "@/no/such/file"), ("cannot be read",)),
        (("--api-key", "two words"), ("one word",)),
    ],
)
def test_wrong_input_is_one_clear_message(
    start: Start, checkout: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    process = start(*arguments)
    code, output = process.wait(), process.output
    assert code == 2, output
    assert all(word in output for word in words), output
    assert "Traceback" not in output and output.startswith("freehold: ")


def test_engines_that_serve_different_models_are_refused(start: Start) -> None:
    with engine("one") as first, engine("two") as second:
        process = start("--workers", f"chat={url(first)},{url(second)}", "--api-key", KEY)
        assert process.wait() == 2
    assert "serve different models" in process.output
