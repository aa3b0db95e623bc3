"""What the simulated engine costs, how well it keeps time, and whether it reproduces measured GPUs.

    python loadtests/benchmarks/simulator/run.py [rows] [large] [pace] [fleet] [--out DIR]

rows   the calibration rows in virtual time: errors of TTFT and TPOT against the measured values
large  the large stack's chat replica with as many sequences as it has seats, by the plan's latency model
pace   one replica at 4,267 tokens a second
fleet  64 replicas on two cores, 6,400 tokens a second together
All of them when none is named. The last three print real time against the model's, CPU a token and memory;
they measure this machine: leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop

from freehold.config import load_stack
from freehold.engine.command_line import command_line
from freehold.local.simulated import scenario_of
from freehold.planning.plan import make_plan
from freehold.simulator import validation

ROOT = Path(__file__).parents[3]

# 128 sequences at 30 ms a step are 4,267 tokens a second: more than any replica of the tiers gives.
_PACE = {"sequences": 128, "step": 0.030, "replicas": 1, "tokens": 300}
# 64 replicas of 4 sequences each at 40 ms: 6,400 tokens a second.
_FLEET = {"sequences": 4, "step": 0.040, "replicas": 64, "tokens": 250}
_LARGE_TOKENS = 400
_ALL = ["rows", "large", "pace", "fleet"]
_PROMPT = "cat " * 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", nargs="*", choices=[*_ALL, []])
    parser.add_argument("--out", type=Path, help="folder for simulator.json")
    parser.add_argument("--rows", type=int, default=0, help="only every so many-th row")
    options = parser.parse_args()
    chosen = options.what or _ALL
    results: dict[str, Any] = {}
    if "rows" in chosen:
        results["rows"] = validation.run(options.rows or 1)
    if "large" in chosen:
        results["large"] = large()
    if "pace" in chosen:
        results["pace"] = on_a_line("pace: one replica, own process", **_PACE, processes=1)
    if "fleet" in chosen:
        results["fleet"] = on_a_line("fleet: 64 replicas, two processes", **_FLEET, processes=2)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "simulator.json").write_text(json.dumps(results, indent=2) + "\n")


def large() -> dict[str, Any]:
    """The large stack's own command line and scenario, every seat taken."""
    plan = make_plan("large", load_stack("large", ROOT))
    chat = next(pool for pool in plan.pools if pool.role == "generate")
    seats = chat.settings.options.max_num_seqs or 1
    what = f"large: {chat.model}, {seats} sequences"
    scenario = {key: v for key, v in scenario_of(plan, chat).items() if key != "shared_tier"}
    arguments = command_line(replace(chat.settings, kv_transfer=None))
    return keep_pace(what, arguments, scenario, seats, _LARGE_TOKENS, replicas=1, processes=1)


def on_a_line(
    what: str, *, sequences: int, step: float, replicas: int, tokens: int, processes: int
) -> dict[str, Any]:
    """Every step takes the same time, whatever is in it."""
    timing = {"step_seconds": step, "sequence_seconds": 0.0, "token_seconds": 0.0}
    scenario = {"timing": timing, "kv_tokens": 4_000_000}
    return keep_pace(what, ["model"], scenario, sequences, tokens, replicas, processes)


def keep_pace(
    what: str,
    arguments: Sequence[str],
    scenario: dict[str, Any],
    sequences: int,
    tokens: int,
    replicas: int,
    processes: int,
) -> dict[str, Any]:
    """Stream `sequences` answers of `tokens` from each replica at once and compare with the model."""
    with engines(arguments, scenario, replicas, processes) as (pids, urls):
        names = httpx.get(f"{urls[0]}/v1/models").json()["data"]
        before, started = cpu_seconds(pids), time.monotonic()
        uvloop.run(stream_all(urls, names[0]["id"], sequences, tokens))
        wall, used = time.monotonic() - started, cpu_seconds(pids) - before
        memory = [psutil.Process(pid).memory_info().rss / 2**20 for pid in pids]
        clocks = [httpx.get(f"{url}/simulator/clock").json() for url in urls]
    total = sequences * replicas * tokens
    errors = [clock["elapsed_seconds"] / clock["modelled_seconds"] - 1 for clock in clocks]
    result = {
        "tokens": total,
        "tokens_per_second": total / wall,
        "modelled_seconds": statistics.median(clock["modelled_seconds"] for clock in clocks),
        "error_percent": statistics.median(errors) * 100,
        "worst_error_percent": max(errors) * 100,
        "late_seconds": max(clock["late_seconds"] for clock in clocks),
        "cpu_microseconds_per_token": used / total * 1e6,
        "cores_used": used / wall,
        "memory_mib": sum(memory),
        "memory_mib_per_replica": sum(memory) / replicas,
    }
    print(f"{what}\n  {total:,} tokens at {result['tokens_per_second']:,.0f} a second")
    print(
        f"  {result['modelled_seconds']:.1f} s of steps by the model; real time "
        f"{result['error_percent']:+.2f} % median, {result['worst_error_percent']:+.2f} % worst replica"
    )
    print(
        f"  CPU {result['cpu_microseconds_per_token']:.1f} us a token, {result['cores_used']:.2f} "
        f"cores; memory {result['memory_mib']:.0f} MiB, {result['memory_mib_per_replica']:.1f} a replica"
    )
    return result


@contextmanager
def engines(
    arguments: Sequence[str], scenario: dict[str, Any], replicas: int, processes: int
) -> Iterator[tuple[list[int], list[str]]]:
    """Fleets that serve; yields their process ids and every replica's address."""
    ports = free_ports(replicas)
    with tempfile.TemporaryDirectory(prefix="freehold-bench-") as folder:
        path = Path(folder) / "scenario.json"
        path.write_text(json.dumps(scenario))
        started = []
        for number in range(processes):
            config = Path(folder) / f"fleet-{number}.json"
            mine = [
                {"arguments": [*arguments, "--port", str(port)], "scenario": str(path)}
                for port in ports[number::processes]
            ]
            config.write_text(json.dumps(mine))
            command = [sys.executable, "-m", "freehold.simulator.fleet", str(config)]
            started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        try:
            wait_until_healthy(urls)
            yield [process.pid for process in started], urls
        finally:
            for process in started:
                process.terminate()
                process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def wait_until_healthy(urls: Sequence[str]) -> None:
    started = time.monotonic()
    for url in urls:
        while True:
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() - started > 30:
                    sys.exit(f"{url} does not become healthy")
                time.sleep(0.05)


def cpu_seconds(pids: Sequence[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times)


# --- A client that costs little: it counts tokens by their bytes --------------------------------------


async def stream_all(urls: Sequence[str], model: str, sequences: int, tokens: int) -> None:
    await asyncio.gather(
        *(stream_one(url, model, number, tokens) for url in urls for number in range(sequences))
    )


async def stream_one(url: str, model: str, number: int, tokens: int) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    host, _, port = url.removeprefix("http://").partition(":")
    body = {"model": model, "max_tokens": tokens, "stream": True, "ignore_eos": True}
    # Different from its first word on, so that the prefix cache has no part in it.
    data = json.dumps(body | {"prompt": f"{number:04}{_PROMPT}"}).encode()
    await loop.create_connection(lambda: Stream(data, done), host, int(port))
    await done


class Stream(asyncio.Protocol):
    def __init__(self, body: bytes, done: asyncio.Future[None]) -> None:
        self._body, self._done = body, done

    def connection_made(self, transport: Any) -> None:
        head = b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        transport.write(head % len(self._body) + self._body)

    def data_received(self, data: bytes) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set_result(None)


if __name__ == "__main__":
    main()
