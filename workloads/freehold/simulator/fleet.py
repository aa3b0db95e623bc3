"""Many replicas in one process, for machines with few cores and little memory.

    python -m freehold.simulator.fleet CONFIG

CONFIG is a JSON list with an object for each replica: `arguments` (vLLM's command line) and, as the
environment would name it, `scenario` (a file). Each replica has a port of its own; a crash that a test
asks for ends one of them: its port closes and its connections break off, the others go on.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from freehold.config.errors import FreeholdError

from .replica import Replica
from .settings import ENVIRONMENT, settings_of


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m freehold.simulator.fleet CONFIG")
    try:
        replicas = read(Path(sys.argv[1]))
    except FreeholdError as error:
        print(f"freehold.simulator.fleet: {error}", file=sys.stderr)
        sys.exit(2)
    uvloop.run(run(replicas))


def read(path: Path) -> list[Replica]:
    """Raises FreeholdError for a file that is no such list."""
    try:
        entries: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [_replica(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FreeholdError(f"{path} is no list of replicas: {error!r}") from error


def _replica(entry: Mapping[str, Any]) -> Replica:
    scenario = entry.get("scenario")
    environment = {ENVIRONMENT: scenario} if scenario else {}
    return Replica(settings_of(entry["arguments"], environment), crash=Replica.kill)


async def run(replicas: Sequence[Replica]) -> None:
    """Until SIGTERM; then every replica drains as it would alone."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await asyncio.gather(*(replica.start() for replica in replicas))
    print(f"{len(replicas)} simulated replicas", flush=True)
    await ended.wait()
    await asyncio.gather(*(replica.stop() for replica in replicas))


if __name__ == "__main__":
    main()
