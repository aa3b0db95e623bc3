"""What clients do to a gateway that wants to stay up: the real Envoy with its bounds made small."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from ports import free_ports

from freehold.gateway import envoy
from freehold.gateway.model import Pool, Worker

from . import mutations
from .cases import Json, Mutation
from .door import fresh_id
from .running import (
    KEY,
    Bench,
    Engines,
    envoy_process,
    gateway_for,
    is_ready,
    running_gateway,
    until,
)

ROOT = Path(__file__).parents[2]
MIB = 2**20
_PAUSE_SECONDS = 0.005
CHAT = "/v1/chat/completions"


def _monitor(config: Json, name: str) -> Json:
    monitors = config["overload_manager"]["resource_monitors"]
    return next(m["typed_config"] for m in monitors if m["name"].endswith(name))


def _few_connections(config: Json) -> None:
    _monitor(config, "max_connections")["max_active_downstream_connections"] = 5


def _small_heap(config: Json) -> None:
    _monitor(config, "fixed_heap")["max_heap_size_bytes"] = 512 * MIB


def _short_times(config: Json) -> None:
    manager = mutations.manager(config)
    assert {"request_headers_timeout", "request_timeout"} <= manager.keys()
    manager |= {"request_headers_timeout": "1s", "request_timeout": "2s"}
    assert manager["common_http_protocol_options"]["idle_timeout"]
    manager["common_http_protocol_options"]["idle_timeout"] = "3s"


def _quick_keepalive(config: Json) -> None:
    options = config["static_resources"]["listeners"][0]["socket_options"]
    idle = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    option = next(option for option in options if (option["level"], option["name"]) == idle)
    option["int_value"] = 1


def _without(key: str) -> Mutation:
    def mutate(config: Json) -> None:
        del config["overload_manager"][key]

    return mutate


@contextmanager
def _bench(engines: Engines, folder: Path, *changes: Mutation) -> Iterator[Bench]:
    def all_changes(config: Json) -> None:
        for change in changes:
            change(config)

    with running_gateway(engines, folder, broken=all_changes) as bench:
        yield bench


def _head(*more: str) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "host: gateway", f"authorization: Bearer {KEY}"]
    lines += ["content-type: application/json", *more]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def _answer(end: socket.socket) -> bytes:
    """Everything until the gateway closes."""
    said = b""
    while part := end.recv(65536):
        said += part
    return said


def test_a_length_over_the_limit_is_refused_before_the_body(without_picker: Bench) -> None:
    limit = without_picker.gateway.max_body_bytes
    with _connect(without_picker.gateway.port) as end:
        end.sendall(_head(f"content-length: {limit + 1}") + b"\r\n")
        head, _, body = _answer(end).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"]["code"] == "request_too_large"


def test_connections_over_the_bound_are_closed_and_the_admin_port_is_not(
    engines: Engines, tmp_path: Path
) -> None:
    with _bench(engines, tmp_path, _few_connections) as bench:
        held = [_connect(bench.gateway.port) for _ in range(5)]
        until(lambda: bench.envoy_stat("downstream_cx_active") >= 5)
        with _connect(bench.gateway.port) as sixth:
            assert sixth.recv(1) == b""
        assert is_ready(bench.gateway)
        for end in held:
            end.close()
        until(lambda: _is_served(bench))


def _is_served(bench: Bench) -> bool:
    try:
        return bench.post(CHAT, bench.chat()).is_success
    except httpx.TransportError:
        return False


def test_who_says_half_of_it_is_not_waited_for(engines: Engines, tmp_path: Path) -> None:
    """A head, a body, a chunk, and nothing at all."""
    halves = {
        _head(): b"HTTP/1.1 408 ",
        _head("content-length: 100") + b'\r\n{"model":': b"HTTP/1.1 408 ",
        _head("transfer-encoding: chunked") + b'\r\n64\r\n{"model":': b"HTTP/1.1 408 ",
        b"": b"",
    }
    with _bench(engines, tmp_path, _short_times) as bench:
        for half, expected in halves.items():
            with _connect(bench.gateway.port) as end:
                end.sendall(half)
                assert _answer(end).startswith(expected) if expected else _answer(end) == b""


def test_a_client_that_vanished_frees_its_engine(engines: Engines, tmp_path: Path) -> None:
    """Gone without a word, as a laptop that is shut: its stream is silent, so nothing else would tell."""
    with _bench(engines, tmp_path, _quick_keepalive) as bench:
        name = fresh_id()
        body = json.dumps(bench.chat(stream=True, stub={"hold": True})).encode()
        end = _connect(bench.gateway.port)
        end.sendall(_head(f"content-length: {len(body)}", f"x-request-id: {name}") + b"\r\n" + body)
        while b"data: " not in end.recv(65536):
            pass
        _, seen = bench.sole(name)
        _vanish(end)
        until(lambda: seen.state == "gone", 10)


def _vanish(end: socket.socket) -> None:
    """Closed in repair mode a Linux socket says no goodbye."""
    tcp_repair = 19
    try:
        end.setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
    except OSError:
        pytest.skip("a socket may be forgotten with CAP_NET_ADMIN only")
    end.close()


def test_bodies_do_not_fill_memory_and_do_not_shut_others_out(
    engines: Engines, tmp_path: Path
) -> None:
    with _bench(engines, tmp_path, _small_heap) as bench, _half_bodies(bench) as memory:
        assert memory < 340
        served = sum(_is_served(bench) for _ in range(20))
        assert served > 10, "who held back the ends of bodies held up the others"


def test_without_the_bound_they_do(engines: Engines, tmp_path: Path) -> None:
    """What the test above rests on."""
    unbounded = _without("loadshed_points")
    with _bench(engines, tmp_path, _small_heap, unbounded) as bench, _half_bodies(bench) as memory:
        assert memory > 340


@contextmanager
def _half_bodies(bench: Bench) -> Iterator[float]:
    """Twelve of 30 MiB each without their ends, which are 360 MiB where 170 are allowed; what Envoy then
    takes, in MiB. At 50 MiB a second, as Envoy looks at its memory every 0.1 s: through loopback's whole
    speed 100 MiB come between two looks, a third of all here and a twentieth of a gateway's real bounds."""
    piece = b"%x\r\n%s\r\n" % (MIB // 4, b"x" * (MIB // 4))
    ends = [_connect(bench.gateway.port) for _ in range(12)]
    for end in ends:
        with contextlib.suppress(OSError):
            end.sendall(_head("transfer-encoding: chunked") + b"\r\n")
            for _ in range(30 * 4):
                end.sendall(piece)
                time.sleep(_PAUSE_SECONDS)
    yield _envoy_of(bench.folder).memory_info().rss / MIB
    for end in ends:
        end.close()


def _envoy_of(folder: Path) -> psutil.Process:
    return next(
        process
        for process in psutil.Process().children()
        if str(folder / "envoy.json") in process.cmdline()
    )


@pytest.fixture
def endless() -> Iterator[int]:
    """The port of an engine that writes as long as somebody reads."""
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "loadtests.benchmarks.soak.engine", str(port)]
    process = subprocess.Popen(argv, cwd=ROOT)
    try:
        until(lambda: _listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        _connect(port).close()
    except OSError:
        return False
    return True


def test_what_nobody_reads_stays_at_the_engine(endless: int, tmp_path: Path) -> None:
    pool = Pool("endless", "generate", ("endless",), (Worker("endless-0", "127.0.0.1", endless),))
    gateway = replace(gateway_for(Engines(), tmp_path), pools=(pool,))
    message = {"role": "user", "content": "without end"}
    body = json.dumps({"model": "endless", "messages": [message], "stream": True}).encode()
    readers = 20
    with envoy_process(gateway, tmp_path):
        until(lambda: is_ready(gateway))
        ends = [_connect(gateway.port) for _ in range(readers)]
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            end.sendall(_head(f"content-length: {len(body)}") + b"\r\n" + body)

        def written() -> int:
            return httpx.get(f"http://127.0.0.1:{endless}/counters").json()["written_bytes"]

        def stands_still() -> bool:
            before = written()
            time.sleep(0.5)
            return 0 < before == written()

        until(stands_still)
        # Two buffers of Envoy, two of the kernel, the engine's own; without bounds it is more than 4 MiB.
        assert written() / readers < MIB
        for end in ends:
            end.close()


def test_probes_get_in_when_the_door_is_full() -> None:
    gateway = replace(gateway_for(Engines(), None), stats=("127.0.0.1", 9))
    config = envoy.bootstrap(gateway)
    door, stats = config["static_resources"]["listeners"]
    assert stats["ignore_global_conn_limit"] and config["admin"]["ignore_global_conn_limit"]
    assert "ignore_global_conn_limit" not in door
