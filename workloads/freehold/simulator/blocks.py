"""Paged KV memory with a prefix cache: vLLM's block pool, counted instead of stored.

A block is either private (being filled, or the same as one that is cached already) or cached: known
by the hash of everything up to its end. Cached blocks are shared; those that nobody uses any more stay
until memory is needed, the least recently freed go first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import xxhash


class BlockPool:
    """`blocks` of KV memory; `caching` off gives every request its own."""

    __slots__ = ("_free", "_idle", "_reserved", "_users", "blocks", "caching")

    def __init__(self, blocks: int, caching: bool = True) -> None:
        self.blocks = blocks
        self.caching = caching
        self._free = blocks
        self._reserved = 0
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        return self._free + len(self._idle) - self._reserved

    @property
    def usage(self) -> float:
        """Share of the blocks that are held."""
        return min(1.0, 1 - self.available / self.blocks)

    def reserve(self, count: int) -> None:
        """Withhold so many blocks, cached ones among them; those in use come as they are given back."""
        self._reserved = count
        self._withhold()

    def match(self, chain: Sequence[int]) -> int:
        """How many blocks from the beginning of the chain are cached."""
        users = self._users
        for place, block in enumerate(chain):
            if block not in users:
                return place
        return len(chain)

    def share(self, chain: Sequence[int]) -> int:
        """Use cached blocks; returns how many of them were idle (and are available no more)."""
        users, idle = self._users, self._idle
        woken = 0
        for block in chain:
            if not users[block]:
                del idle[block]
                woken += 1
            users[block] += 1
        return woken

    def take(self, count: int) -> bool:
        """Private blocks, evicting idle ones where none is free; False (and nothing) if too few."""
        if count > self.available:
            return False
        self._evict(max(0, count + self._reserved - self._free))
        self._free -= count
        return True

    def _withhold(self) -> None:
        self._evict(min(len(self._idle), max(0, self._reserved - self._free)))

    def _evict(self, count: int) -> None:
        for _ in range(count):
            block, _ = self._idle.popitem(last=False)
            del self._users[block]
        self._free += count

    def publish(self, block: int) -> bool:
        """A private block is full: others may share it. False if the same is cached already."""
        if not self.caching or block in self._users:
            return False
        self._users[block] = 1
        return True

    def release(self, shared: Sequence[int], private: int) -> None:
        """Give blocks back. A prompt's end goes before its beginning when memory is needed."""
        users, idle = self._users, self._idle
        for block in reversed(shared):
            users[block] -= 1
            if not users[block]:
                idle[block] = None
        self._free += private
        if self._reserved:
            self._withhold()

    def clear(self) -> None:
        """Forget every cached block that nobody uses."""
        self._free += len(self._idle)
        for block in self._idle:
            del self._users[block]
        self._idle.clear()


def chain_of(text: bytes, block_bytes: int, seed: int) -> list[int]:
    """Hashes of the whole blocks of a text, each over all before it."""
    view, digest = memoryview(text), xxhash.xxh3_64_intdigest
    chain = []
    for start in range(0, len(text) - block_bytes + 1, block_bytes):
        seed = digest(view[start : start + block_bytes], seed)
        chain.append(seed)
    return chain


def root_of(salt: str, adapter: str) -> int:
    """What a chain starts from: caches are apart by `cache_salt` and by LoRA adapter."""
    return xxhash.xxh3_64_intdigest(f"{salt}\0{adapter}")
