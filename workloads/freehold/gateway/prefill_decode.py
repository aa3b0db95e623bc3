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

from .model import Address, join_address

# An answer takes as long as it takes; the router's own limit would end a long stream (its default is
# 30 minutes). It begins to listen when a worker of each kind has answered, however long that takes.
_FOREVER_SECONDS = 24 * 3600
# It refuses beyond its queue by itself; engines do that better, with `--max-num-queued-reqs`.
_QUEUE = 100_000


@dataclass(frozen=True)
class PrefillDecode:
    """A router, and the engines behind it. Two ports: requests, and metrics."""

    address: Address
    metrics: Address
    prefill: tuple[Address, ...]
    decode: tuple[Address, ...]


def router_program() -> str:
    """The one beside this interpreter."""
    return str(Path(sys.executable).with_name("vllm-router"))


def router_arguments(pair: PrefillDecode) -> list[str]:
    """Of its policies only those that need no tokenizer on the engines are sound here: `cache_aware`
    asks every engine to render each prompt."""
    arguments = [
        *("--host", pair.address[0], "--port", str(pair.address[1])),
        *("--prometheus-host", pair.metrics[0], "--prometheus-port", str(pair.metrics[1])),
        *("--vllm-pd-disaggregation", "--kv-connector", "nixl", "--policy", "power_of_two"),
        *("--request-timeout-secs", str(_FOREVER_SECONDS), "--queue-size", str(_QUEUE)),
        *("--worker-startup-timeout-secs", str(_FOREVER_SECONDS)),
        *("--worker-startup-check-interval", "1"),
        # Until a check fails a dead worker is still chosen, and its requests are lost: every second (the
        # default is a minute), and once is enough. A slow answer is none: long prompts delay it.
        *("--health-check-interval-secs", "1", "--health-check-timeout-secs", "10"),
        *("--health-failure-threshold", "1", "--health-success-threshold", "1"),
        # Its retries choose no other worker (seen with 0.1.17); the gateway retries what was refused.
        "--disable-retries",
        "--disable-circuit-breaker",  # a full queue (503) is no illness
        *("--log-level", "warning"),  # below it a line for every choice
    ]
    for role, addresses in (("--prefill", pair.prefill), ("--decode", pair.decode)):
        for address in addresses:
            arguments += [role, f"http://{join_address(*address)}"]
    return arguments
