"""A real Prometheus on a free port."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from gateway.running import until

from freehold.local.tools import find_tools

from .promtool import TOOLS


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def running(config: Path | str, address: str, data: Path) -> Iterator[None]:
    program = find_tools(["prometheus"], TOOLS, print)["prometheus"]
    argv = [
        str(program),
        f"--config.file={config}",
        f"--web.listen-address={address}",
        f"--storage.tsdb.path={data}",
    ]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _ready(address), seconds=60)
        yield
    finally:
        process.kill()
        process.wait()


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
