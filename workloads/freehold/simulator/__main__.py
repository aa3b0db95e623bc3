"""One simulated replica: `python -m freehold.simulator <vLLM's command line>`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

import uvloop

from freehold.config.errors import FreeholdError

from .replica import Replica
from .settings import settings_of


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 0 after SIGTERM, 2 for what vLLM would refuse too."""
    try:
        settings = settings_of(sys.argv[1:] if arguments is None else arguments)
        replica = Replica(settings)
    except FreeholdError as error:
        sys.exit(_refused(error))
    uvloop.run(_run(replica))


def _refused(error: Exception) -> int:
    print(f"freehold.simulator: {error}", file=sys.stderr)
    return 2


async def _run(replica: Replica) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        await replica.start()
    except OSError as error:
        raise SystemExit(_refused(error)) from None
    settings = replica.settings
    print(f"{settings.names[0]}: simulated at http://{settings.host}:{replica.port}", flush=True)
    await ended.wait()
    await replica.stop()


if __name__ == "__main__":
    main()
