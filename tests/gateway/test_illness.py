"""Workers that answer badly while their health check passes: the real gateway and picker before simulated
engines with faults."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports
from simulator.conftest import Fleet, Server

from freehold.gateway.model import ApiKey, Gateway, Policy, Pool, Worker
from freehold.gateway.picker.illness import most_left_out, verdict
from freehold.gateway.picker.probe import makes_sense

from .running import KEY, started, until

# Ten times slower is told from a busy machine only if a token takes its time.
TIMING = {"step_seconds": 0.02, "sequence_seconds": 0.0, "token_seconds": 0.0}


@dataclass
class Site:
    gateway: Gateway
    engines: list[Server]
    http: httpx.Client

    def chat(self, text: str = "hello", **more: Any) -> int:
        """Its status; 0 for an answer that breaks off or is no event stream."""
        messages = [{"role": "user", "content": text}]
        body = {"model": "chat", "messages": messages, "max_tokens": 6, "stream": True, **more}
        try:
            answer = self.http.post("/v1/chat/completions", json=body)
            return answer.status_code if "what is this" not in answer.text else 0
        except httpx.HTTPError:
            return 0

    def change(self, place: int, **faults: Any) -> None:
        self.engines[place].post("/simulator/faults", json=faults).raise_for_status()

    def metric(self, name: str, worker: int) -> float:
        host, port = self.gateway.picker_health() or ("", 0)
        text = httpx.get(f"http://{host}:{port}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return sum(float(line.split()[-1]) for line in lines if f'worker="chat-{worker}"' in line)

    def up(self) -> list[bool]:
        return [self.metric("freehold_picker_worker_up", n) == 1 for n in range(len(self.engines))]

    def reports(self) -> int:
        admin = f"http://127.0.0.1:{self.gateway.admin_port}/stats"
        text = httpx.get(admin, params={"filter": "grpc_access_log.logs_written"}).text
        return int(text.rsplit(": ", 1)[1])

    @contextmanager
    def busy(self, clients: int = 6, **more: Any) -> Iterator[None]:
        """Clients that ask one thing after the other, whatever the answer."""
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                self.chat(**more)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for engine in self.engines:
                engine.post("/simulator/faults", json={"hung": False})
            for thread in threads:
                thread.join(20)


@contextmanager
def site(
    folder: Path, workers: int, policy: Policy = "prefix", arguments: tuple[str, ...] = ()
) -> Iterator[Site]:
    door, admin, grpc, http = free_ports(4)
    with ExitStack() as stack:
        fleet = Fleet(folder)
        stack.callback(fleet.close)
        engines = [fleet.start(*arguments, faults=True, timing=TIMING) for _ in range(workers)]
        named = [Worker(f"chat-{n}", "127.0.0.1", e.replica.port) for n, e in enumerate(engines)]
        gateway = Gateway(
            port=door,
            admin_port=admin,
            pools=(Pool("chat", "generate", ("chat",), tuple(named), policy),),
            keys=(ApiKey(KEY),),
            picker=("127.0.0.1", grpc),
            picker_http=("127.0.0.1", http),
            access_log=str(folder / "access.log"),
        )
        stack.enter_context(started(gateway, folder))
        client = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{door}",
                headers={"authorization": f"Bearer {KEY}"},
                timeout=20,
            )
        )
        yield Site(gateway, engines, client)


FAULTS = {
    "500s": ({"error_rate": 1.0}, {"error_rate": 0.0}),
    "garbage": ({"garbage_rate": 1.0}, {"garbage_rate": 0.0}),
    "broken off": ({"break_rate": 1.0}, {"break_rate": 0.0}),
    "hung": ({"hung": True}, {"hung": False}),
    "slow": ({"slow": 20.0}, {"slow": 1.0}),
}


LATE = [pytest.param(fault, marks=pytest.mark.long) for fault in ("broken off", "hung", "slow")]


@pytest.mark.parametrize("fault", ["500s", "garbage", *LATE])
def test_who_answers_worse_than_its_peers_is_left_out_until_well(
    fault: str, tmp_path: Path
) -> None:
    begin, end = FAULTS[fault]
    with site(tmp_path, 3) as made, made.busy():
        until(lambda: all(made.metric("freehold_picker_picks_total", n) for n in range(3)))
        made.change(0, **begin)
        until(lambda: made.up() == [False, True, True], seconds=60)
        picked = made.metric("freehold_picker_picks_total", 0)
        others = made.metric("freehold_picker_picks_total", 1)
        until(lambda: made.metric("freehold_picker_picks_total", 1) > others + 10)
        assert made.metric("freehold_picker_picks_total", 0) == picked
        made.change(0, **end)
        until(lambda: all(made.up()), seconds=60)
        until(lambda: made.metric("freehold_picker_picks_total", 0) > picked)


def test_requests_that_no_engine_can_answer_take_nobody_out(tmp_path: Path) -> None:
    with site(tmp_path, 3) as made:
        poison: dict[str, Any] = {"simulator": {"fault": "error"}}
        with made.busy(4, **poison):
            until(lambda: made.reports() > 200)
            # Each has been suspect, was asked, and answered: it stays.
            until(lambda: all(probes(engine) >= 3 for engine in made.engines))
            assert all(made.up())
        assert made.chat(**poison) == 500
        assert made.chat() == 200
        assert not any(made.metric("freehold_picker_worker_ill_total", n) for n in range(3))


def probes(engine: Server) -> float:
    """The picker's own questions, which alone succeed while all clients send poison."""
    return engine.metric("vllm:request_success_total")


def test_the_only_worker_stays_whatever_it_answers(tmp_path: Path) -> None:
    with site(tmp_path, 1) as made:
        made.change(0, error_rate=1.0)
        with made.busy(2):
            until(lambda: made.reports() > 100)
            assert made.up() == [True]
        made.change(0, error_rate=0.0)
        assert made.chat() == 200


def test_of_three_at_most_one_is_left_out(tmp_path: Path) -> None:
    with site(tmp_path, 3) as made, made.busy():
        made.change(0, error_rate=1.0)
        until(lambda: made.up() == [False, True, True])
        made.change(1, error_rate=1.0)
        until(lambda: made.metric("freehold_picker_worker_ill_total", 1) == 1)
        assert made.up() == [False, True, True]


def test_a_full_queue_is_no_illness(tmp_path: Path) -> None:
    arguments = ("--max-num-queued-reqs", "1")
    with site(tmp_path, 2, arguments=arguments) as made, made.busy(8):
        until(lambda: refused(tmp_path) > 100)
        assert made.up() == [True, True]
        assert made.reports() == 0


def refused(folder: Path) -> int:
    return sum(json.loads(line)["status"] == 503 for line in access_log(folder))


def access_log(folder: Path) -> list[str]:
    text = (folder / "access.log").read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def test_envoys_own_policies_pass_over_who_is_out(tmp_path: Path) -> None:
    """They know nobody's illness; the picker chooses in their place meanwhile."""
    with site(tmp_path, 3, "round_robin") as made:
        made.change(0, error_rate=1.0)
        with made.busy(2):
            until(lambda: made.up() == [False, True, True])
        seen = len(access_log(tmp_path))
        for number in range(30):
            made.chat(f"{number}")
        # On a busy machine the picker may be too late for a few, which are then Envoy's to place.
        entries = [json.loads(line) for line in until(lambda: lines_after(tmp_path, seen + 20))]
        placed = [entry for entry in entries if entry["worker"] == "chat-0"]
        assert len(placed) < len(entries) / 6, "a third is a turn like the others"


def lines_after(folder: Path, count: int) -> list[str]:
    return access_log(folder)[count - 20 :] if len(access_log(folder)) >= count else []


def test_an_answer_counts_beside_those_of_peers() -> None:
    assert verdict(math.inf, [0.1, None]) > 0
    assert verdict(math.inf, [math.inf, None]) == 0, "who is to say that it could be answered?"
    assert verdict(None, [0.1, 0.1]) == 0, "too busy to say"
    assert verdict(1.0, [0.1, 0.1]) > 0
    assert verdict(1.0, [0.5, math.inf]) < 0
    assert verdict(math.inf, [0.1]) > verdict(1.0, [0.1]), "slow must be so for longer"


@pytest.mark.parametrize(
    ("workers", "most"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (6, 2), (16, 5)]
)
def test_a_third_at_most_is_left_out_and_never_the_only_one(workers: int, most: int) -> None:
    assert most_left_out(workers) == most


def test_what_makes_sense_as_an_answer() -> None:
    stream = b'data: {"choices": []}\n\ndata: [DONE]\n\n'
    assert makes_sense(stream, "generate")
    assert makes_sense(b": still there\n\n" + stream, "generate")
    assert not makes_sense(stream.replace(b"data: [DONE]\n\n", b""), "generate")
    assert not makes_sense(b"what is this\n\n" + stream, "generate")
    assert not makes_sense(stream.replace(b'{"choices": []}', b"{"), "generate")
    assert not makes_sense(stream.replace(b"choices", b"error"), "generate")
    assert not makes_sense(b"", "generate")
    assert makes_sense(b'{"data": []}', "embed")
    assert not makes_sense(b"<html>", "rerank")
