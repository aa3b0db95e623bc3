"""What happens when parts die, with real engines. Each test prints what it counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psutil
import pytest

from .conftest import LiveStack, text_of, until

pytestmark = pytest.mark.e2e

EXTERNAL_HITS = "vllm:external_prefix_cache_hits_total"


@dataclass(frozen=True)
class Outcome:
    """How one request went."""

    status: int | None
    seconds: float
    finished: bool
    worker: str = ""


def kill(stack: LiveStack, name: str) -> int:
    """kill -9 of a process of the stack; its former pid. Returns when all of it has ended: until then
    its sockets, which its threads and children hold too, still take requests."""
    process = psutil.Process(stack.pid(name))
    tree = [process, *process.children(recursive=True)]
    process.kill()
    until(f"{name} has ended", lambda: all(ended(one) for one in tree), 10)
    return process.pid


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def wait_until_back(stack: LiveStack, name: str, former: int, seconds: float) -> float:
    started = time.monotonic()

    def back() -> bool:
        process = stack.status()[name]
        return process["health"] == "healthy" and process["pid"] != former

    until(f"{name} is back", back, seconds)
    return time.monotonic() - started


def ask(stack: LiveStack, prompt: str) -> Outcome:
    started = time.monotonic()
    try:
        status = stack.chat(prompt, max_tokens=2).status_code
    except httpx.HTTPError:
        status = None
    return Outcome(status, time.monotonic() - started, status == 200)


def stream(stack: LiveStack, prompt: str, first: Callable[[], None]) -> Outcome:
    """One long stream, read to its end; `first` is called at the first event."""
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 200,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"authorization": f"Bearer {stack.key}"}
    started, status, last = time.monotonic(), None, ""
    try:
        url = f"{stack.base_url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=120) as answer:
            status = answer.status_code
            for line in answer.iter_lines():
                if line:
                    first()
                    last = line
    except httpx.HTTPError:
        pass
    return Outcome(status, time.monotonic() - started, last == "data: [DONE]")


def counted(outcomes: list[Outcome]) -> str:
    statuses = Counter(str(outcome.status) for outcome in outcomes)
    slowest = max(outcome.seconds for outcome in outcomes)
    return f"{dict(statuses)}, slowest {slowest:.2f} s"


@pytest.fixture
def untouched(stack: LiveStack) -> Iterator[None]:
    """The chat workers are the same processes before and after: no engine restarted."""
    names = ("chat-0", "chat-1")
    before = {name: stack.status()[name] for name in names}
    yield
    after = {name: stack.status()[name] for name in names}
    for name in names:
        assert after[name]["pid"] == before[name]["pid"], name
        assert after[name]["restarts"] == before[name]["restarts"], name


def test_redis_killed(stack: LiveStack, untouched: None) -> None:
    former = kill(stack, "redis")
    outcomes = [ask(stack, text_of(300, f"redis {n}")) for n in range(6)]
    print(f"\nRedis killed: {counted(outcomes)}")
    assert all(outcome.finished for outcome in outcomes)
    wait_until_back(stack, "redis", former, 30)


def test_the_cache_server_killed_while_idle(stack: LiveStack, untouched: None) -> None:
    usual = max(ask(stack, text_of(300, f"usual {n}")).seconds for n in range(4))
    former = kill(stack, "cache")
    outcomes = [ask(stack, text_of(300, f"idle {n}")) for n in range(8)]
    print(f"\ncache killed while idle: usually at most {usual:.2f} s; {counted(outcomes)}")
    assert all(outcome.finished for outcome in outcomes)
    assert max(outcome.seconds for outcome in outcomes) < usual + 5
    wait_until_back(stack, "cache", former, 120)
    caching_resumes(stack, "after idle")


def test_the_cache_server_killed_with_requests_in_flight(stack: LiveStack, untouched: None) -> None:
    def burst(label: str, during: Callable[[], None]) -> list[Outcome]:
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(ask, stack, text_of(300, f"{label} {n}")) for n in range(8)]
            during()
            return [future.result() for future in waiting]

    usual = max(outcome.seconds for outcome in burst("usual burst", lambda: None))
    killed: list[int] = []

    def strike() -> None:
        time.sleep(0.5)  # into the middle of the burst
        killed.append(kill(stack, "cache"))

    outcomes = burst("burst", strike)
    print(f"\ncache killed in flight: usually at most {usual:.2f} s; {counted(outcomes)}")
    assert all(outcome.finished for outcome in outcomes)
    assert max(outcome.seconds for outcome in outcomes) < usual + 5
    wait_until_back(stack, "cache", killed[0], 120)
    caching_resumes(stack, "after flight")


def caching_resumes(stack: LiveStack, salt: str) -> None:
    """A prompt that worker 1 saw is found by worker 2 again."""
    tries = iter(range(1000))

    def found() -> bool:
        prompt = text_of(500, f"{salt} {next(tries)}")
        stack.chat(prompt, worker="chat-0", max_tokens=1)
        before = stack.metric("chat-1", EXTERNAL_HITS)
        stack.chat(prompt, worker="chat-1", max_tokens=1)
        return stack.metric("chat-1", EXTERNAL_HITS) > before

    until("caching resumes", found, 60)


def test_the_gateway_killed(stack: LiveStack, untouched: None) -> None:
    former = kill(stack, "gateway")
    started = time.monotonic()

    def answers() -> bool:
        try:
            return stack.openai.models.list().data != []
        except Exception:
            return False

    until("the gateway answers with the same key", answers, 10)
    seconds = time.monotonic() - started
    print(f"\ngateway killed: answering again after {seconds:.2f} s")
    assert seconds < 2
    wait_until_back(stack, "gateway", former, 10)


def test_the_picker_killed(stack: LiveStack, untouched: None) -> None:
    former = kill(stack, "picker")
    outcomes = [ask(stack, f"picker {n}") for n in range(20)]
    print(f"\npicker killed: {counted(outcomes)}")
    assert all(outcome.finished for outcome in outcomes)
    wait_until_back(stack, "picker", former, 30)


def test_a_worker_killed_under_streams(stack: LiveStack) -> None:
    started = threading.Semaphore(0)

    def run(n: int) -> Outcome:
        seen = False

        def first() -> None:
            nonlocal seen
            if not seen:
                seen = True
                started.release()

        return stream(stack, f"stream {n} " + text_of(20, str(n)), first)

    with ThreadPoolExecutor(32) as pool:
        waiting = [pool.submit(run, n) for n in range(32)]
        for _ in range(32):
            assert started.acquire(timeout=60)
        former = kill(stack, "chat-0")
        later = [ask(stack, f"afterwards {n}") for n in range(20)]
        streams = [future.result(timeout=150) for future in waiting]
    whole = sum(outcome.finished for outcome in streams)
    print(
        f"\nworker killed under 32 streams: {whole} ended whole, {32 - whole} with an error, "
        f"slowest {max(s.seconds for s in streams):.1f} s; afterwards {counted(later)}"
    )
    assert 0 < whole < 32  # those of the other worker go on
    assert all(outcome.status == 200 for outcome in later)
    print(f"the worker was back after {wait_until_back(stack, 'chat-0', former, 300):.0f} s")

    def serves_again() -> bool:
        answer = stack.chat("are you there", worker="chat-0")
        return answer.status_code == 200

    until("the gateway sends to it again", serves_again, 30)
