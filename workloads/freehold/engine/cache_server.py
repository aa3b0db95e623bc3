"""LMCache's server for a container: its own command line, with the password of Redis from outside it.

LMCache 0.5.6 reads no password of its `valkey` adapter but in the command line, which every process of
the machine can read. This puts it in after the process has started:

    LMCACHE_RESP_PASSWORD=... python -m freehold.engine.cache_server [options of `lmcache server`]
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence

PASSWORD = "LMCACHE_RESP_PASSWORD"
"""LMCache's own name; its `resp` adapter reads it by itself."""


def with_password(arguments: Sequence[str], password: str | None) -> list[str]:
    """The arguments, with the password in each adapter of the type `valkey`."""
    return [*_with_password(arguments, password)] if password else list(arguments)


def _with_password(arguments: Sequence[str], password: str) -> Iterator[str]:
    before = None
    for argument in arguments:
        yield _adapter(argument, password) if before == "--l2-adapter" else argument
        before = argument


def _adapter(text: str, password: str) -> str:
    adapter = json.loads(text)
    if adapter.get("type") != "valkey":
        return text
    return json.dumps({**adapter, "password": password}, sort_keys=True)


if __name__ == "__main__":
    from lmcache.cli.main import main

    main(["server", *with_password(sys.argv[1:], os.environ.get(PASSWORD))])
