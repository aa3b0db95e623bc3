"""Ports for tests: beside the range from which the kernel takes ports for outgoing connections, and apart
for each of pytest's parallel workers, so that nobody else takes one between finding it and using it."""

from __future__ import annotations

import itertools
import os
import socket

# Each worker walks a thousand ports of its own; the first kernel port is 32768.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_FIRST, _COUNT = 20_000 + 1_000 * (_WORKER % 12), 1_000
# Where it begins differs from one run to the next, for runs that are beside one another.
_BEGIN = os.getpid() * 64 % _COUNT
_next = itertools.islice(itertools.cycle(range(_FIRST, _FIRST + _COUNT)), _BEGIN, None)


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on, none given out twice soon."""
    tried = itertools.islice(_next, _COUNT)
    return list(itertools.islice(filter(_is_free, tried), count))


def free_row(count: int) -> list[int]:
    """The same, one after the other, for stacks that count from their first port."""
    row: list[int] = []
    for port in itertools.islice(_next, 2 * _COUNT):
        if not _is_free(port):
            row = []
            continue
        row = [*row, port] if row and port == row[-1] + 1 else [port]
        if len(row) == count:
            return row
    raise AssertionError(f"no {count} ports in a row from {_FIRST} on are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
