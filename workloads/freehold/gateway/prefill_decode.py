"""Disaggregated prefill: vLLM's own router behind the gateway.

One set of engines reads prompts, another writes answers, and the KV cache goes from the first to the
second. Who does which is `vllm-router`'s business; to the gateway the router is the one worker of the
pool, and everything that makes a front door (keys, models, limits, refusals) stays in front of it: by
itself it passes every path it does not know on to a worker, without a key (seen with 0.1.17).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from .model import Address, Worker, join_address

# An answer takes as long as it takes; the router's own limit would end a long stream (its default is
# 30 minutes).
_REQUEST_SECONDS = 24 * 3600
# It refuses beyond its queue by itself; engines do that better, with `--max-num-queued-reqs`.
_QUEUE = 100_000


@dataclass(frozen=True)
class PrefillDecode:
    """A router, and the engines behind it. Two ports: requests, and metrics."""

    name: str
    address: Address
    metrics: Address
    prefill: tuple[Address, ...]
    decode: tuple[Address, ...]

    @property
    def worker(self) -> Worker:
        """The router as the gateway sees it."""
        return Worker(self.name, *self.address)


def router_argv(pair: PrefillDecode) -> list[str]:
    """The router's command line. Of its policies only those that need no tokenizer on the engines are
    sound here: `cache_aware` asks every engine to render each prompt."""
    argv = [
        str(Path(sys.executable).with_name("vllm-router")),
        *("--host", pair.address[0], "--port", str(pair.address[1])),
        *("--prometheus-host", pair.metrics[0], "--prometheus-port", str(pair.metrics[1])),
        *("--vllm-pd-disaggregation", "--kv-connector", "nixl", "--policy", "power_of_two"),
        *("--request-timeout-secs", str(_REQUEST_SECONDS), "--queue-size", str(_QUEUE)),
        # The gateway retries, once and never after the first byte.
        "--disable-retries",
    ]
    for role, addresses in (("--prefill", pair.prefill), ("--decode", pair.decode)):
        for address in addresses:
            argv += [role, f"http://{join_address(*address)}"]
    return argv
