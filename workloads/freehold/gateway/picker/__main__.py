"""`python -m freehold.gateway.picker CONFIG.json`: serve until told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from freehold.config.errors import FreeholdError

from .config import PickerConfig, load
from .fleet import Fleet
from .illness import Ward
from .metrics import serve_http
from .service import serve_grpc


async def serve(config: PickerConfig) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(config.pools))
        for pool in config.pools:
            await stack.enter_async_context(Ward(pool, fleet))
        await stack.enter_async_context(serve_grpc(config, fleet))
        await stack.enter_async_context(serve_http(config.http, fleet))
        await stopped.wait()


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m freehold.gateway.picker CONFIG.json", file=sys.stderr)
        return 2
    try:
        uvloop.run(serve(load(Path(sys.argv[1]))))
    except (FreeholdError, OSError) as error:
        print(f"picker: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
