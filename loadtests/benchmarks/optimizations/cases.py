"""The stacks that are rehearsed for the pages in docs/optimizations: each topic is one stack with and
without one switch, on the same GPUs and under the same load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.config.inheritance import merge

Tree = dict[str, Any]

# What guesses, in a rehearsal and on the laptop, whose results the rehearsal takes up.
GUESSES = {"method": "ngram", "num_speculative_tokens": 4}
LAPTOP = Path(__file__).parents[3] / "docs" / "optimizations" / "laptop.json"


@dataclass(frozen=True)
class Case:
    """One rehearsal."""

    topic: str
    title: str
    stack: Tree
    load: int = 1
    """So many times the demand, where a plan for as much would be refused."""
    demand_of: Tree | None = None
    """The stack whose load is sent, where it is not its own."""
    whole: bool = False
    """Several workers: only a rehearsal of the whole stack shows it."""


# A dense model of which one H100 holds little beside 16-bit weights; its speed in bf16 on an H100 is measured
# (platform/freehold/catalog/measured), the rest is the latency model's.
_ONE_H100: Tree = {
    "model": "qwen3-32b",
    "quantization": "fp8",
    "context": 16384,
    "placement": {"instance_type": "p5.4xlarge", "replicas": 1},
    "demand": {"concurrency": 12, "input_tokens": 2000, "output_tokens": 200},
}
# Conversations of some turns on the smallest GPU that the catalog has.
_CHAT: Tree = {
    "model": "qwen2.5-7b",
    "quantization": "fp8",
    "context": 16384,
    "placement": {"instance_type": "g6.xlarge", "replicas": 1},
    "demand": {
        "concurrency": 8,
        "input_tokens": 4000,
        "output_tokens": 200,
        "prefix_hit_rate": 0.6,
    },
}


def cases() -> Iterator[Case]:
    yield from _quantization()
    yield from _prefix_caching()
    yield from _tiers()
    yield from _tensor_parallel()
    yield from _speculation()
    yield from _disaggregated()


def stack(pool: Tree, *changes: Tree, **beside: Any) -> Tree:
    """A stack of one chat pool, with changes to it; `beside` are keys next to `pools`."""
    chat: Any = {"name": "chat", "role": "generate"}
    for change in (pool, *changes):
        chat = merge(chat, change)
    target = {
        "kind": "eks",
        "region": "us-east-2",
        "zones": ["us-east-2a", "us-east-2b"],
        "endpoint": {"runner": "in-vpc"},
    }
    return {"target": target, "pools": [chat], "observability": {"prometheus": None}, **beside}


def _quantization() -> Iterator[Case]:
    formats: tuple[tuple[str, Tree], ...] = (
        ("bf16", {"quantization": "bf16"}),
        ("fp8", {}),
        ("fp8, KV cache in fp8", {"engine": {"kv_cache_dtype": "fp8"}}),
    )
    for load in (1, 3):
        for title, change in formats:
            yield Case("quantization", title, stack(_ONE_H100, change), load)


def _prefix_caching() -> Iterator[Case]:
    on = stack(_CHAT)
    nothing_found: Tree = {"engine": {"prefix_caching": False}, "demand": {"prefix_hit_rate": 0.0}}
    off = stack(_CHAT, nothing_found)
    yield Case("prefix-caching", "`prefix_caching: false`", off, demand_of=on)
    yield Case("prefix-caching", "as it comes", on)


def _tiers() -> Iterator[Case]:
    """As many conversations as the GPU takes at once: little of its memory is left for what was said."""
    full: Tree = {"placement": {"instance_type": "g6.2xlarge"}, "demand": {"concurrency": 36}}
    cache = {"host_memory_gib": 8, "chunk_tokens": 256}
    for title, more in (("GPU memory alone", {}), ("and 8 GiB of host memory", {"cache": cache})):
        yield Case("kv-cache-tiers", title, stack(_CHAT, full, **more))


def _tensor_parallel() -> Iterator[Case]:
    large: Tree = {
        "model": "llama-3.3-70b",
        "demand": {"concurrency": 4, "input_tokens": 4000, "output_tokens": 100},
    }
    for instance, tensor, pipeline, what in (
        ("g6e.12xlarge", 4, 1, "4 x L40S, TP4: the trap"),
        ("g6e.12xlarge", 1, 4, "4 x L40S, PP4"),
        ("g6e.12xlarge", 2, 2, "4 x L40S, TP2 x PP2"),
        ("p5.48xlarge", 8, 1, "8 x H100 with NVLink, TP8"),
    ):
        split = {
            "instance_type": instance,
            "tensor_parallel": tensor,
            "pipeline_parallel": pipeline,
        }
        yield Case("tensor-parallel", what, stack(_ONE_H100, large, {"placement": split}))


def _speculation() -> Iterator[Case]:
    topic = "speculative-decoding"
    for in_flight in (4, 64):
        at: Tree = {"demand": {"concurrency": in_flight}}
        yield Case(topic, "without", stack(_ONE_H100, at))
        for what in ("editing code", "free answers"):
            accepted = _accepted(what)
            change: Tree = {
                "demand": {"accepted_tokens": accepted},
                "engine": {"speculation": GUESSES},
            }
            title = f"`ngram`, {what}: {accepted:g} right a step"
            yield Case(topic, title, stack(_ONE_H100, at, change))


def _accepted(kind: str) -> float:
    """What a real model accepted of four guesses, on a laptop (laptop.py)."""
    return json.loads(LAPTOP.read_text())["guessing"][kind]["accepted_a_step"]


def _disaggregated() -> Iterator[Case]:
    topic = "disaggregated-prefill"
    longer: Tree = {"demand": {"input_tokens": 4000, "output_tokens": 300}}
    three: Tree = {"placement": {"replicas": 3}}
    yield Case(topic, "3 whole workers", stack(_ONE_H100, longer, three), whole=True)
    apart: Tree = {"prefill_replicas": 1, "decode_replicas": 2}
    for what, link in (("100 Gbit/s", {"link_gbps": 100}), ("TCP on EC2", {})):
        divided: Tree = {"placement": {"replicas": None}, "disaggregated": apart | link}
        title = f"1 reads, 2 write, {what}"
        yield Case(topic, title, stack(_ONE_H100, longer, divided), whole=True)
