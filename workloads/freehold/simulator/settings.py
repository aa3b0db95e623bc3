"""From the command line and the scenario file to what one simulated replica is.

The command line is vLLM's own. What no flag of vLLM says (how fast the GPU is, how fast the shared KV
tier is, whether faults may be asked for) stands in one JSON file that `FREEHOLD_SIMULATOR` names.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from freehold.config.errors import FreeholdError

from . import flags
from .scheduler import Limits

ENVIRONMENT = "FREEHOLD_SIMULATOR"
# What vLLM 0.32 takes where the command line says nothing: block size and batch on a GPU
# (config/cache.py, engine/arg_utils.py, read 2026-11-24).
_BLOCK_SIZE = 16
_MAX_NUM_SEQS = 256
_MAX_NUM_BATCHED_TOKENS = 2048
# What a real model's config.json would say; without a plan there is none to read.
_MAX_MODEL_LEN = 32768
_KV_BLOCKS = 16384
_DIMENSIONS = 384


@dataclass(frozen=True)
class SharedTier:
    """A KV cache behind the worker's own: where it is and what a hit costs."""

    address: tuple[str, int] | None
    """Host and port of the server that workers share; None for this worker's own host memory."""
    gib: float = 0.0
    """Of host memory; a server knows its own size."""
    bytes_per_token: float = 131072.0
    """KV bytes of one token, on the wire."""
    gigabytes_per_second: float = 10.0
    latency_seconds: float = 0.001
    timeout_seconds: float = 1.5


@dataclass(frozen=True)
class Handover:
    """KV caches of prompts that another worker has read (NIXL): what fetching them costs."""

    bytes_per_token: float = 131072.0
    gigabytes_per_second: float = 1.25

    def seconds(self, tokens: int) -> float:
        return tokens * self.bytes_per_token / (self.gigabytes_per_second * 1e9)


@dataclass(frozen=True)
class Line:
    """Step times on a straight line: so many seconds a step, a decoding sequence, a prefilled token.

    For engines that no plan speaks of: tests, a first try.
    """

    step_seconds: float = 0.01
    sequence_seconds: float = 0.0001
    token_seconds: float = 0.00002


Timing = Line | Mapping[str, Any]
"""A line, or the plan's deployment as JSON (`deployment.py`)."""


@dataclass(frozen=True)
class Settings:
    host: str
    port: int
    model: str
    names: tuple[str, ...]
    """Names that clients may put in `model`; the first is the one in answers."""
    role: Literal["generate", "embed", "classify"]
    limits: Limits
    timing: Timing = Line()
    adapters: Mapping[str, str] = field(default_factory=dict)
    """LoRA adapters: name to path."""
    max_loras: int | None = None
    api_keys: tuple[str, ...] = ()
    dimensions: int = _DIMENSIONS
    shutdown_timeout: float = 0.0
    prompt_tokens_details: bool = False
    force_usage: bool = False
    request_id_headers: bool = False
    auto_tool_choice: bool = False
    sleep_mode: bool = False
    shared_tier: SharedTier | None = None
    handover: Handover | None = None
    faults: bool = False
    seed: int = 0
    start_seconds: float = 0.0
    """How long loading the weights takes before the port opens."""
    cache_config: Mapping[str, str] = field(default_factory=dict)
    """Labels of `vllm:cache_config_info` that differ from vLLM's defaults."""


def settings_of(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
    """Raises FreeholdError for what vLLM would not start with; exits with 2 as argparse does."""
    environment = os.environ if environment is None else environment
    given = flags.parse(arguments)
    path = environment.get(ENVIRONMENT)
    scenario = _read(Path(path)) if path else {}
    return from_namespace(given, scenario, environment)


def _read(path: Path) -> dict[str, Any]:
    try:
        scenario = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FreeholdError(f"{ENVIRONMENT}={path} cannot be read: {error}") from error
    allowed = {
        "deployment",
        "timing",
        "kv_tokens",
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
    }
    allowed |= {
        "handover",
        "tokens_per_step",
        "shared_tier",
        "faults",
        "seed",
        "start_seconds",
        "dimensions",
    }
    if unknown := set(scenario) - allowed:
        raise FreeholdError(
            f"{path}: unknown key {sorted(unknown)[0]!r}; allowed: {', '.join(sorted(allowed))}"
        )
    return scenario


def from_namespace(
    given: argparse.Namespace, scenario: Mapping[str, Any], environment: Mapping[str, str]
) -> Settings:
    model = given.model_tag or given.model or "Qwen/Qwen3-0.6B"  # vLLM's own default
    adapters = dict(_adapter(text) for text in given.lora_modules or ())
    limits = _limits(given, scenario)
    return Settings(
        host=given.host or "127.0.0.1",
        port=given.port if given.port is not None else 8000,
        model=model,
        names=tuple(given.served_model_name or (model,)),
        role=_role(given),
        limits=limits,
        timing=scenario.get("deployment") or Line(**scenario.get("timing", {})),
        adapters=adapters,
        max_loras=(given.max_loras or 1) if given.enable_lora else None,
        api_keys=tuple(given.api_key or filter(None, (environment.get("VLLM_API_KEY"),))),
        dimensions=scenario.get("dimensions", _DIMENSIONS),
        shutdown_timeout=float(given.shutdown_timeout or 0),
        prompt_tokens_details=bool(given.enable_prompt_tokens_details),
        force_usage=bool(given.enable_force_include_usage),
        request_id_headers=bool(given.enable_request_id_headers),
        auto_tool_choice=bool(given.enable_auto_tool_choice and given.tool_call_parser),
        sleep_mode=bool(given.enable_sleep_mode) and environment.get("VLLM_SERVER_DEV_MODE") == "1",
        shared_tier=_shared_tier(given, scenario),
        handover=_handover(given, scenario),
        faults=bool(scenario.get("faults")),
        seed=int(scenario.get("seed", given.seed or 0)),
        start_seconds=float(scenario.get("start_seconds", 0)),
        cache_config={
            "block_size": str(limits.block_size),
            "num_gpu_blocks": str(limits.blocks),
            "kv_cache_size_tokens": str(limits.blocks * limits.block_size),
            "kv_cache_max_concurrency": str(
                limits.blocks * limits.block_size / limits.max_model_len
            ),
            "enable_prefix_caching": str(limits.prefix_caching),
            "gpu_memory_utilization": str(given.gpu_memory_utilization or 0.92),
            "cache_dtype": given.kv_cache_dtype or "auto",
        },
    )


def _limits(given: argparse.Namespace, scenario: Mapping[str, Any]) -> Limits:
    block = given.block_size or _BLOCK_SIZE
    longest = given.max_model_len if (given.max_model_len or -1) > 0 else None
    longest = longest or int(scenario.get("max_model_len", _MAX_MODEL_LEN))
    kv_tokens = scenario.get("kv_tokens")
    blocks = given.num_gpu_blocks_override
    blocks = blocks or (
        int(kv_tokens) // block if kv_tokens else max(_KV_BLOCKS, -(-longest // block))
    )
    speculation = given.speculative_config or {}
    drafts = int(speculation.get("num_speculative_tokens", 0))
    pooling = _role(given) != "generate"
    batch = given.max_num_batched_tokens or scenario.get("max_num_batched_tokens")
    limits = Limits(
        block_size=block,
        blocks=blocks,
        max_num_seqs=given.max_num_seqs or int(scenario.get("max_num_seqs", _MAX_NUM_SEQS)),
        # A pooling engine takes a whole text in one step.
        max_num_batched_tokens=max(
            int(batch or _MAX_NUM_BATCHED_TOKENS), longest if pooling else 1
        ),
        max_model_len=longest,
        prefix_caching=given.enable_prefix_caching is not False and not pooling,
        draft_tokens=drafts,
        tokens_per_step=min(float(scenario.get("tokens_per_step", 1.0)), 1.0 + drafts),
        max_queued_requests=given.max_num_queued_reqs,
        max_queued_tokens=given.max_num_queued_tokens,
    )
    if not pooling and blocks * block < longest:
        raise FreeholdError(
            f"one request of --max-model-len {longest} needs {longest} tokens of KV cache, there is "
            f"room for {blocks * block}: shorten --max-model-len or give more memory"
        )
    return limits


def _role(given: argparse.Namespace) -> Literal["generate", "embed", "classify"]:
    if given.runner == "pooling" or (given.convert or "auto") in ("embed", "classify"):
        return "classify" if given.convert == "classify" else "embed"
    return "generate"


def _adapter(text: str) -> tuple[str, str]:
    """`name=path`, or an object with `name` and `path`."""
    if text.lstrip().startswith("{"):
        entry = json.loads(text)
        return entry["name"], entry["path"]
    name, equals, path = text.partition("=")
    if not equals:
        raise FreeholdError(f"--lora-modules {text!r}: give name=path")
    return name, path


def _handover(given: argparse.Namespace, scenario: Mapping[str, Any]) -> Handover | None:
    if (given.kv_transfer_config or {}).get("kv_connector") != "NixlConnector":
        return None
    return Handover(**scenario.get("handover", {}))


def _shared_tier(given: argparse.Namespace, scenario: Mapping[str, Any]) -> SharedTier | None:
    """LMCache's server where the connector's own settings say, or vLLM's native offloading; how fast
    either is comes from the scenario."""
    speed = scenario.get("shared_tier", {})
    extra = (given.kv_transfer_config or {}).get("kv_connector_extra_config", {})
    if "lmcache.mp.port" in extra:
        host = str(extra.get("lmcache.mp.host", "127.0.0.1")).removeprefix("tcp://")
        return SharedTier((host, int(extra["lmcache.mp.port"])), **speed)
    if given.kv_offloading_size and given.kv_offloading_backend in (None, "native"):
        return SharedTier(None, gib=given.kv_offloading_size, **speed)
    return None
