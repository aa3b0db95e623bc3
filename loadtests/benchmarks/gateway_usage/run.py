"""What counting tokens costs the gateway: Envoy's own processor time for each streamed token, with and
without. From the repository's root:

    python -m loadtests.benchmarks.gateway_usage.run

Three gateways before one small engine: one that counts nothing, Freehold's script, and Envoy's own filters
(`json_to_metadata` and `sse_to_metadata`, to which the engine sends usage unasked). Each round sends the same
streams to all three, in another order; figures are medians of the rounds. The engine writes each token by
itself, so that Envoy sees it by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from freehold.gateway import envoy, launch
from freehold.gateway.model import ApiKey, Gateway, Pool, Worker
from freehold.gateway.names import ASK_FILTER, USAGE_FILTER, any_proto

_ENGINE, _FIRST_PORT = 21_500, 21_510
_KEY = "key-of-the-benchmark"
_SECONDS_A_TOKEN = 0.004
Json = dict[str, Any]


@dataclass
class Running:
    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


def main() -> None:
    options = argparse.ArgumentParser(description="What counting tokens costs the gateway.")
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--streams", type=int, default=64, help="at once")
    options.add_argument("--tokens", type=int, default=200, help="of each stream")
    options.add_argument("--prompt-bytes", type=int, default=4000)
    asyncio.run(_all(options.parse_args()))


async def _all(options: argparse.Namespace) -> None:
    server = await asyncio.start_server(_Engine(options.tokens).connection, "127.0.0.1", _ENGINE)
    with tempfile.TemporaryDirectory() as folder, _gateways(Path(folder)) as gateways:
        found: dict[str, list[float]] = {gateway.name: [] for gateway in gateways}
        for gateway in gateways:
            await asyncio.to_thread(_await, gateway.port + 1)
            await _round(gateway, options)  # warm
        for _ in range(options.rounds):
            for gateway in random.sample(gateways, len(gateways)):
                before = gateway.cpu_seconds()
                await _round(gateway, options)
                spent = gateway.cpu_seconds() - before
                found[gateway.name].append(spent / options.streams / options.tokens * 1e6)
    server.close()
    nothing = statistics.median(found["nothing"])
    print(f"{options.streams} streams of {options.tokens} tokens, {options.rounds} rounds each")
    print(f"{'counts with':<20}{'us a token':>12}{'range':>18}{'ratio':>8}")
    for name, each in found.items():
        middle = statistics.median(each)
        between = f"{min(each):.1f} to {max(each):.1f}"
        print(f"{name:<20}{middle:>12.1f}{between:>18}{middle / nothing:>8.2f}")


@contextmanager
def _gateways(folder: Path) -> Iterator[list[Running]]:
    running: list[Running] = []
    processes: list[subprocess.Popen[bytes]] = []
    changes: dict[str, Callable[[Json], None]] = {
        "nothing": _count_nothing,
        "Freehold's script": lambda _: None,
        "Envoy's filters": _count_with_envoy,
    }
    try:
        for place, (name, change) in enumerate(changes.items()):
            port = _FIRST_PORT + 2 * place
            config = envoy.bootstrap(_gateway(port))
            change(config)
            path = folder / f"envoy-{place}.json"
            path.write_text(json.dumps(config))
            process = subprocess.Popen(launch.envoy_argv(path, concurrency=1, log_level="off"))
            processes.append(process)
            running.append(Running(name, port, psutil.Process(process.pid)))
        yield running
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _gateway(port: int) -> Gateway:
    pool = Pool(
        "chat",
        "generate",
        ("chat",),
        (Worker("chat-0", "127.0.0.1", _ENGINE),),
        policy="least_request",
    )
    return Gateway(
        port=port,
        admin_port=port + 1,
        pools=(pool,),
        keys=(ApiKey(_KEY),),
        access_log="/dev/null",
    )


def _manager(config: Json) -> Json:
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    return chain["filters"][0]["typed_config"]


def _count_nothing(config: Json) -> None:
    manager = _manager(config)
    manager["access_log"] = manager["access_log"][:1]
    ours = (ASK_FILTER, USAGE_FILTER)
    manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] not in ours]


def _count_with_envoy(config: Json) -> None:
    def rules() -> list[Json]:
        return [
            {
                "selectors": [{"key": "usage"}, {"key": f"{kind}_tokens"}],
                "on_present": {
                    "metadata_namespace": "freehold.usage",
                    "key": kind,
                    "type": "NUMBER",
                },
            }
            for kind in ("prompt", "completion")
        ]

    filters = "envoy.extensions.filters.http"
    plain = any_proto(
        f"{filters}.json_to_metadata.v3.JsonToMetadata",
        response_rules={"rules": rules(), "allow_content_types": ["application/json"]},
    )
    parser = any_proto(
        "envoy.extensions.content_parsers.json.v3.JsonContentParser",
        rules=[{"rule": rule} for rule in rules()],
    )
    streams = any_proto(
        f"{filters}.sse_to_metadata.v3.SseToMetadata",
        response_rules={
            "content_parser": {"name": "envoy.content_parsers.json", "typed_config": parser}
        },
    )
    chain = [f for f in _manager(config)["http_filters"] if f["name"] != ASK_FILTER]
    _manager(config)["http_filters"] = chain
    place = next(place for place, f in enumerate(chain) if f["name"] == USAGE_FILTER)
    chain[place : place + 1] = [
        {"name": "plain", "typed_config": plain},
        {"name": "streams", "typed_config": streams},
    ]


def _await(admin: int) -> None:
    for _ in range(200):
        try:
            stats = httpx.get(f"http://127.0.0.1:{admin}/stats?filter=chat.membership_healthy").text
            if "chat.membership_healthy: 1" in stats:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("Envoy did not start")


async def _round(gateway: Running, options: argparse.Namespace) -> None:
    prompt = "word " * (options.prompt_bytes // 5)
    message = {"role": "user", "content": prompt}
    body = json.dumps({"messages": [message], "model": "chat", "stream": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {_KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    answers = await asyncio.gather(
        *(_ask(gateway.port, head.encode() + body) for _ in range(options.streams))
    )
    for answer in answers:
        assert answer.count(b'"content"') == options.tokens, answer[:300]


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read(-1)
    writer.close()
    return answer


class _Engine:
    """Streams so many tokens, each an event of vLLM's size, then usage."""

    def __init__(self, tokens: int) -> None:
        base = (
            '"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1764000000'
        )
        token = '{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}'
        self._token = _chunk(f'data: {{{base},"model":"chat","choices":[{token}]}}\n\n')
        usage = f'"usage":{{"prompt_tokens":800,"total_tokens":1000,"completion_tokens":{tokens}}}'
        last = f'data: {{{base},"model":"chat","choices":[],{usage}}}\n\n'
        self._last = _chunk(last) + _chunk("data: [DONE]\n\n") + b"0\r\n\r\n"
        self._tokens = tokens

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                if head.startswith("get /health"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    continue
                await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                    b"transfer-encoding: chunked\r\n\r\n"
                )
                for _ in range(self._tokens):
                    writer.write(self._token)
                    await asyncio.sleep(_SECONDS_A_TOKEN)
                writer.write(self._last)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()


def _chunk(event: str) -> bytes:
    data = event.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


if __name__ == "__main__":
    main()
