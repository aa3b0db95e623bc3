"""What gateway, cache and operators rely on: sleep, drain, health, faults, the shared tier, a fleet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

from freehold.simulator import shared_tier
from freehold.simulator.settings import ENVIRONMENT

from .conftest import Fleet, Start


def until(what: Any, seconds: float = 10.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if found := what():
                return found
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


@contextlib.contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


# --- Sleep --------------------------------------------------------------------------------------------


def test_a_sleeping_engine_waits_and_goes_on_when_woken(start: Start) -> None:
    server = start("--enable-sleep-mode", environment={"VLLM_SERVER_DEV_MODE": "1"})
    assert server.post("/sleep?level=2").json() == {"status": "sleeping", "level": 2}
    assert server.get("/is_sleeping").json() == {"is_sleeping": True}
    assert server.metric("vllm:engine_sleep_state", sleep_state="awake") == 0
    assert server.metric("vllm:engine_sleep_state", sleep_state="discard_all") == 1
    with pytest.raises(httpx.ReadTimeout):
        server.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}, timeout=0.3)
    server.post("/wake_up")
    assert server.get("/is_sleeping").json() == {"is_sleeping": False}
    assert server.chat("x", max_tokens=1).status_code == 200


def test_sleep_is_not_offered_outside_of_development(start: Start) -> None:
    assert start("--enable-sleep-mode").post("/sleep").status_code == 404


# --- Drain --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "reason"), [("10", "length"), ("0", "abort")])
def test_sigterm_lets_running_answers_end_within_the_timeout(
    tmp_path: Path, timeout: str, reason: str
) -> None:
    [port] = free_ports(1)
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"timing": {"step_seconds": 0.02}}')
    arguments = ("--model", "m", "--port", str(port), "--shutdown-timeout", timeout)
    with process("freehold.simulator", *arguments, **{ENVIRONMENT: str(scenario)}) as engine:
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(f"{url}/health").status_code == 200)
        body = {"prompt": "x", "max_tokens": 60, "stream": True}
        lines: list[str] = []
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=20) as answer:
            read = answer.iter_lines()
            lines.append(next(read))
            engine.send_signal(signal.SIGTERM)
            lines.extend(line for line in read if line)
        assert engine.wait(10) == 0
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert chunks[-1]["choices"][0]["finish_reason"] == reason
    assert (len(chunks) == 60) == (reason == "length")


# --- Faults -------------------------------------------------------------------------------------------


def test_faults_are_refused_where_they_are_not_switched_on(start: Start) -> None:
    server = start()
    assert server.post("/simulator/faults", json={"hung": True}).status_code == 404
    assert server.chat("x", max_tokens=1, simulator={"fault": "error"}).status_code == 200


def test_unknown_faults_are_refused(start: Start) -> None:
    answer = start(faults=True).post("/simulator/faults", json={"hunk": True})
    assert answer.status_code == 400 and "unknown fault 'hunk'" in answer.text


def test_an_engine_hangs_with_good_health_and_can_be_released(start: Start) -> None:
    server = start(faults=True)
    server.post("/simulator/faults", json={"hung": True})
    assert server.get("/health").status_code == 200
    with pytest.raises(httpx.ReadTimeout):
        server.post("/v1/completions", json={"prompt": "x", "max_tokens": 1}, timeout=0.3)
    server.post("/simulator/faults", json={"hung": False})
    assert server.chat("x", max_tokens=1).status_code == 200


def test_a_dead_engine_is_unhealthy_and_answers_500(start: Start) -> None:
    server = start(faults=True)
    server.post("/simulator/faults", json={"dead": True})
    assert server.get("/health").status_code == 503
    assert server.chat("x").status_code == 500


def test_a_slow_engine_is_slow(start: Start) -> None:
    server = start(faults=True, timing={"step_seconds": 0.01})

    def seconds() -> float:
        started = time.monotonic()
        server.chat("x", max_tokens=10)
        return time.monotonic() - started

    usual = seconds()
    server.post("/simulator/faults", json={"slow": 5})
    assert seconds() > 3 * usual


def test_a_taken_kv_cache_makes_requests_wait_until_it_is_given_back(start: Start) -> None:
    server = start(faults=True)
    server.post("/simulator/faults", json={"kv_taken": 1.0})
    assert server.metric("vllm:kv_cache_usage_perc") == 1
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(server.chat("x").status_code))
    asking.start()
    asking.join(0.3)
    assert not answers
    with httpx.Client(base_url=server.base_url) as other:
        other.post("/simulator/faults", json={"kv_taken": 0.0})
    asking.join(10)
    assert answers == [200]


def test_errors_come_at_their_rate(start: Start) -> None:
    server = start(faults=True, seed=3)
    server.post("/simulator/faults", json={"error_rate": 0.5})
    statuses = [server.chat("x", max_tokens=1).status_code for _ in range(40)]
    assert 8 < statuses.count(500) < 32
    assert set(statuses) == {200, 500}


def test_one_request_can_ask_for_a_broken_or_garbled_answer(start: Start) -> None:
    server = start(faults=True)
    with pytest.raises(httpx.RemoteProtocolError):
        server.chat("x", max_tokens=8, stream=True, simulator={"fault": "break"})
    with pytest.raises(httpx.RemoteProtocolError):
        server.chat("x", max_tokens=8, simulator={"fault": "break"})
    garbled = server.chat("x", max_tokens=8, stream=True, simulator={"fault": "garbage"}).content
    assert b"what is this" in garbled
    assert server.chat("x", max_tokens=8).status_code == 200


def test_a_crash_ends_connections_and_the_port(start: Start) -> None:
    server = start(faults=True)
    with pytest.raises(httpx.TransportError):
        server.chat("x", simulator={"fault": "crash"})
    with pytest.raises(httpx.ConnectError):
        server.get("/health")


def test_a_crash_ends_the_process_of_a_replica_that_has_one(tmp_path: Path) -> None:
    [port] = free_ports(1)
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"faults": true}')
    with process(
        "freehold.simulator", "m", "--port", str(port), **{ENVIRONMENT: str(scenario)}
    ) as engine:
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(f"{url}/health").status_code == 200)
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{url}/simulator/faults", json={"crash": True})
        assert engine.wait(10) == 139


# --- The shared tier ----------------------------------------------------------------------------------


class Tier:
    """The simulated tier on a loop of its own, so that it can be killed."""

    def __init__(self, fleet: Fleet, port: int, chunk: int = 64, capacity: int = 100_000) -> None:
        self.store = shared_tier.Store(chunk, capacity)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.connections: list[Any] = []
        started = asyncio.run_coroutine_threadsafe(
            shared_tier.serve(self.store, "127.0.0.1", port), self._loop
        )
        self._server = started.result(5)

    def kill(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
            await asyncio.sleep(0.05)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)


def transfer(port: int) -> tuple[str, str]:
    extra = {"lmcache.mp.host": "tcp://127.0.0.1", "lmcache.mp.port": port}
    config = {"kv_connector": "LMCacheMPConnector", "kv_connector_extra_config": extra}
    return "--kv-transfer-config", json.dumps(config)


def test_a_worker_takes_from_the_tier_what_another_has_computed(fleet: Fleet) -> None:
    [port] = free_ports(1)
    tier = Tier(fleet, port)
    # Slow enough to be seen: a megabyte a token over 10 GB/s are 0.1 ms a token.
    speed = {"bytes_per_token": 1e6, "gigabytes_per_second": 10.0, "latency_seconds": 0.0}
    workers = [
        fleet.start(*transfer(port), "--enable-prompt-tokens-details", shared_tier=speed)
        for _ in range(2)
    ]
    for worker in workers:
        client = worker.replica.tier
        assert client
        until(lambda client=client: client.connected)
    prompt = "cat " * 1000
    first = workers[0].chat(prompt, max_tokens=2)
    assert first.json()["usage"]["prompt_tokens_details"] is None
    until(lambda: len(tier.store) >= 15)
    started = time.monotonic()
    second = workers[1].chat(prompt, max_tokens=2).json()["usage"]
    took = time.monotonic() - started
    assert second["prompt_tokens_details"] == {"cached_tokens": 960}  # 15 chunks of 64
    assert took > 960 * 0.0001
    metric = workers[1].metric
    assert metric("vllm:external_prefix_cache_hits_total") == 960
    assert metric("vllm:external_prefix_cache_queries_total") == second["prompt_tokens"]
    sources = "vllm:prompt_tokens_by_source_total"
    assert metric(sources, source="external_kv_transfer") == 960
    # By now it has it itself.
    workers[1].chat(prompt, max_tokens=2)
    assert metric("vllm:external_prefix_cache_hits_total") == 960
    salted = workers[1].chat(prompt, max_tokens=2, cache_salt="other").json()["usage"]
    assert salted["prompt_tokens_details"] is None
    tier.kill()


def test_a_dead_tier_costs_a_miss_and_no_request(fleet: Fleet) -> None:
    [port] = free_ports(1)
    tier = Tier(fleet, port)
    worker = fleet.start(*transfer(port))
    client = worker.replica.tier
    assert client
    until(lambda: client.connected)
    tier.kill()
    for place in range(3):
        assert worker.chat(f"{place} " * 500, max_tokens=2).status_code == 200
    again = Tier(fleet, port)
    until(lambda: client.connected)
    worker.chat("back " * 500, max_tokens=2)
    until(lambda: len(again.store))
    again.kill()


def test_native_offloading_brings_back_what_the_worker_s_own_memory_lost(start: Start) -> None:
    blocks = ("--max-model-len", "1024", "--num-gpu-blocks-override", "64")
    worker = start(*blocks, "--kv-offloading-size", "1", "--kv-offloading-backend", "native")
    first, other = "cat " * 800, "dog " * 800
    for prompt in (first, other, first):
        worker.chat(prompt, max_tokens=2)
    metric = worker.metric
    assert metric("vllm:prefix_cache_hits_total") < 300
    sources = "vllm:prompt_tokens_cached_by_source_total"
    assert metric(sources, source="host") == metric("vllm:external_prefix_cache_hits_total") > 400


def test_the_tier_forgets_what_was_not_used_for_longest() -> None:
    store = shared_tier.Store(chunk_tokens=64, capacity_tokens=64 * 3)
    store.add([1, 2, 3])
    assert store.found([1]) == 1
    store.add([4])
    assert [store.found([key]) for key in (1, 2, 3, 4)] == [1, 0, 1, 1]
    assert store.found([1, 9, 3]) == 1
    assert "freehold_simulated_tier_evicted_chunks_total 1" in store.text()


def test_while_redis_is_away_nothing_is_found_and_nothing_arrives() -> None:
    """And LMCache's counters say so, as those of a real one would."""
    store = shared_tier.Store(chunk_tokens=64, capacity_tokens=64 * 9, redis=True)
    store.add([1, 2])
    store.redis_away = True
    store.add([3])
    assert store.found([1, 2]) == store.found([3]) == 0
    stored = "lmcache_mp_l2_store_{}_objects_chunks_total {}\n"
    assert stored.format("submitted", 3) in store.text()
    assert stored.format("completed", 2) in store.text()
    store.redis_away = False
    assert store.found([1, 2]) == 2


def test_redis_goes_away_where_there_is_one() -> None:
    for arguments, away in ((["--redis"], True), ([], False)):
        port, http = free_ports(2)
        listens = ("--port", str(port), "--http-port", str(http))
        with process("freehold.simulator.shared_tier", *listens, *arguments):
            url = f"http://127.0.0.1:{http}"
            until(lambda url=url: httpx.get(f"{url}/healthcheck").status_code == 200)
            fault = httpx.post(f"{url}/simulator/faults", json={"redis_away": True})
            assert fault.json() == {"redis_away": away, "slow_seconds": 0.0}
            assert ("lmcache_mp_l2_store" in httpx.get(f"{url}/metrics").text) == bool(arguments)


def test_a_slow_tier_costs_time_and_no_request(fleet: Fleet) -> None:
    [port] = free_ports(1)
    tier = Tier(fleet, port)
    worker = fleet.start(*transfer(port), shared_tier={"timeout_seconds": 0.5})
    client = worker.replica.tier
    assert client
    until(lambda: client.connected)
    for slow, least in ((0.2, 0.2), (5.0, 0.5)):
        assert tier.store.change({"slow_seconds": slow})["slow_seconds"] == slow
        started = time.monotonic()
        assert worker.chat(f"{slow} " * 500, max_tokens=2).status_code == 200
        assert least <= time.monotonic() - started < 5
    tier.kill()


def test_the_tier_s_process_says_that_it_is_healthy() -> None:
    port, http = free_ports(2)
    with process(
        "freehold.simulator.shared_tier", "--port", str(port), "--http-port", str(http)
    ) as tier:
        url = f"http://127.0.0.1:{http}"
        until(lambda: httpx.get(f"{url}/healthcheck").status_code == 200)
        assert "freehold_simulated_tier_chunks 0" in httpx.get(f"{url}/metrics").text
        tier.send_signal(signal.SIGTERM)
        assert tier.wait(10) == 0


# --- A fleet ------------------------------------------------------------------------------------------


def test_a_fleet_is_many_replicas_that_fail_one_by_one(tmp_path: Path) -> None:
    ports = free_ports(3)
    scenario = tmp_path / "scenario.json"
    scenario.write_text('{"faults": true}')
    config = tmp_path / "fleet.json"
    config.write_text(
        json.dumps(
            [{"arguments": ["m", "--port", str(port)], "scenario": str(scenario)} for port in ports]
        )
    )
    with process("freehold.simulator.fleet", str(config)) as fleet:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for url in urls:
            until(lambda url=url: httpx.get(f"{url}/health").status_code == 200)
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{urls[0]}/simulator/faults", json={"crash": True})
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{urls[0]}/health")
        answer = httpx.post(f"{urls[1]}/v1/completions", json={"prompt": "x", "max_tokens": 2})
        assert answer.status_code == 200
        fleet.send_signal(signal.SIGTERM)
        assert fleet.wait(10) == 0


def test_a_fleet_of_nonsense_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "fleet.json"
    config.write_text("[{}]")
    with process("freehold.simulator.fleet", str(config)) as fleet:
        assert fleet.wait(10) == 2
        assert fleet.stderr and "is no list of replicas" in fleet.stderr.read()
