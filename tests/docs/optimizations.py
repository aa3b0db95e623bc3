"""The tables of docs/optimizations: rehearsals in virtual time, made anew, and what was measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from freehold.config import load_stack
from freehold.local.simulated import replica_of, scenario_of
from freehold.planning.plan import make_plan
from freehold.planning.speed import Load, predict

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "loadtests" / "benchmarks" / "optimizations"
LAPTOP = ROOT / "docs" / "optimizations" / "laptop.json"

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def benchmark(module: str) -> Any:
    """A module of the benchmark, which is a folder of scripts."""
    sys.path.insert(0, str(BENCHMARK))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(BENCHMARK))


def rehearsed(topic: str) -> Table:
    rehearse = benchmark("rehearse")
    return rehearse.headings(topic), list(rehearse.rows(topic))


def guessed() -> Table:
    """What n-gram speculation made of the same questions, by their kind."""
    head = (
        "",
        "tokens answered",
        "steps",
        "guesses checked",
        "right",
        "right a step",
    )
    rows = [
        (
            kind,
            f"{got['tokens']}",
            f"{got['steps']}",
            f"{got['drafted']}",
            f"{got['accepted']} ({got['accepted'] / got['drafted']:.0%})",
            f"{got['accepted_a_step']:.2f}",
        )
        for kind, got in _laptop()["guessing"].items()
    ]
    return head, rows


def _laptop() -> dict[str, Any]:
    return json.loads(LAPTOP.read_text())


def tiers(name: str) -> Table:
    """What each tier of a preset's KV cache holds, and how long the demand's prompt takes to come back."""
    plan = make_plan(name, load_stack(name, ROOT))
    pool = next(pool for pool in plan.pools if pool.role == "generate")
    deployment, cache = replica_of(pool), plan.cache
    assert deployment and cache and pool.demand and pool.sizing and pool.sizing.kv_cache_tokens
    tier = scenario_of(plan, pool)["shared_tier"]
    token, prompt = tier["bytes_per_token"], pool.demand.input_tokens
    anew = predict(deployment, Load(prompt, 1.0, 1.0)).median_ttft_ms / 1e3
    loaded = prompt * token / tier["gigabytes_per_second"] / 1e9
    held = [
        ("host memory", cache.host_memory_gib, f"{loaded:.2f} s at PCIe's line rate"),
        ("NVMe", cache.nvme_gib, "as the disk reads: measure it"),
        ("Redis", cache.redis and cache.redis.memory_gib, "as the network carries: measure it"),
    ]
    rows = [
        ("GPU memory", f"{pool.sizing.kv_cache_tokens:,}", "at once"),
        *((what, f"{gib * 2**30 / token:,.0f}", back) for what, gib, back in held if gib),
        ("nowhere", "", f"{anew:.1f} s: it is read anew"),
    ]
    return ("where", "tokens", f"a prompt of {prompt:,} tokens is back"), rows
