"""Settings that work together: every pair of values of every axis, in as few cases as will do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from freehold.config.engine import EngineOptions
from freehold.config.stack import Role
from freehold.engine.checks import Device
from freehold.engine.settings import (
    EngineSettings,
    KvTransfer,
    LmcacheTransfer,
    NixlTransfer,
)

Options = Mapping[str, Any]
Axes = Mapping[str, Mapping[str, Options]]
"""Axis -> value's name -> options that it sets; `kv_transfer` is the settings' own."""
Choice = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """Settings for a model of shapes.py; names of other shapes in the options become folders."""

    name: str
    model: str
    options: Options = field(default_factory=dict)
    role: Role = "generate"
    kv_transfer: KvTransfer | None = None
    device: Device = "cuda"

    def settings(self, models: Path) -> EngineSettings:
        """The settings, with every model a folder under `models`."""
        options = dict(self.options)
        if said := options.get("speculation"):
            options["speculation"] = said | (
                {"model": str(models / said["model"])} if "model" in said else {}
            )
        if adapters := options.get("lora"):
            options["lora"] = [{"name": name, "path": str(models / name)} for name in adapters]
        return EngineSettings(
            model=str(models / self.model),
            served_name="chat",
            role=self.role,
            options=EngineOptions.model_validate(options),
            kv_transfer=self.kv_transfer,
        )


NGRAM = {"method": "ngram", "num_speculative_tokens": 4}
DRAFT = {"method": "draft_model", "model": "draft"}
EAGLE3 = {"method": "eagle3", "model": "eagle3"}
MTP = {"method": "mtp"}
LMCACHE = LmcacheTransfer(port=5570)

_COMMON: Axes = {
    "dtype": {name: {"dtype": name} for name in ("auto", "bfloat16", "float16", "float32")},
    "kv dtype": {
        "auto": {},
        "bfloat16": {"kv_cache_dtype": "bfloat16"},
        "fp8": {"kv_cache_dtype": "fp8"},
    },
    "parallel": {
        "1": {},
        "tp 8": {"tensor_parallel": 8},
        "pp 2": {"pipeline_parallel": 2},
        "tp 2 pp 2": {"tensor_parallel": 2, "pipeline_parallel": 2},
    },
    "prefix": {"cached": {}, "not cached": {"prefix_caching": False}},
    "parsers": {
        "none": {},
        "both": {"tool_call_parser": "hermes", "reasoning_parser": "qwen3"},
    },
    "memory": {
        "default": {},
        "share": {"memory_share": 0.8},
        "bytes": {"kv_cache_gib": 2, "block_size": 32},
    },
    "batch": {
        "default": {},
        "said": {"max_num_seqs": 64, "max_num_batched_tokens": 8192, "max_model_len": 4096},
    },
    "limits": {"none": {}, "said": {"max_queued_requests": 64, "shutdown_timeout": 10}},
    "start": {"compiled": {}, "eager": {"enforce_eager": True, "trust_remote_code": True}},
    "extra": {"none": {}, "some": {"extra_args": ["--seed", "7", "--no-enable-log-requests"]}},
}
_TRANSFER: Axes = {
    "transfer": {
        "none": {},
        "lmcache": {"kv_transfer": LMCACHE},
        "isolated": {"kv_transfer": LmcacheTransfer(isolated_ipc=True)},
        "native": {"kv_offload_gib": 8},
        "nixl prefill": {"kv_transfer": NixlTransfer("prefill")},
        "nixl decode": {"kv_transfer": NixlTransfer("decode", "cpu", ("LIBFABRIC",))},
    },
}
_ADAPTERS: Axes = {
    "lora": {"none": {}, "two": {"lora": ["adapter", "adapter_rank_64"], "max_lora_rank": 64}},
}
_ON_LOAD: Axes = {
    "quantization": {
        "none": {},
        "fp8": {"quantization": "fp8"},
        "fp8_per_tensor": {"quantization": "fp8_per_tensor"},
        "fp8_per_block": {"quantization": "fp8_per_block"},
        "int8": {"quantization": "int8_per_channel_weight_only"},
    },
}
_GUESSES: Axes = {
    "speculation": {
        "none": {},
        "ngram": {"speculation": NGRAM},
        "draft": {"speculation": DRAFT},
        "eagle3": {"speculation": EAGLE3},
    },
}
GRIDS: dict[tuple[str, Device], Axes] = {
    ("llama", "cuda"): {**_COMMON, **_TRANSFER, **_ADAPTERS, **_ON_LOAD, **_GUESSES},
    ("qwen", "cuda"): {**_COMMON, **_TRANSFER, **_ADAPTERS, **_ON_LOAD},
    ("deepseek", "cuda"): {
        **_COMMON,
        **_TRANSFER,
        **_ON_LOAD,
        "speculation": {"none": {}, "ngram": {"speculation": NGRAM}, "mtp": {"speculation": MTP}},
    },
    ("deepseek_fp8", "cuda"): {**_COMMON, "speculation": {"mtp": {"speculation": MTP}}},
    # What the laptop runs.
    ("llama", "cpu"): {
        **_COMMON,
        "transfer": {"none": {}, "lmcache": {"kv_transfer": LMCACHE}},
        **_ADAPTERS,
        "quantization": {"none": {}, "int8": {"quantization": "int8_per_channel_weight_only"}},
        **_GUESSES,
    },
}
_POOLING: Axes = {
    "dtype": {name: {"dtype": name} for name in ("auto", "bfloat16", "float16", "float32")},
    "parallel": {"1": {}, "tp 2": {"tensor_parallel": 2}},
    "memory": {"share": {"memory_share": 0.1}, "bytes": {"kv_cache_gib": 1}},
    "batch": {"default": {}, "said": {"max_num_seqs": 32, "max_num_batched_tokens": 1024}},
    "limits": _COMMON["limits"],
    "start": _COMMON["start"],
    "extra": _COMMON["extra"],
}
POOLING: dict[tuple[str, Role], Axes] = {
    ("bert", "embed"): _POOLING,
    ("reranker", "rerank"): _POOLING,
    ("llama", "embed"): _POOLING,
}


def refused_pairs(case: Case, axes: Axes, works: Callable[[Case], bool]) -> set[frozenset[str]]:
    """Pairs of values that `works` does not let through, each as `axis value`."""
    return {
        frozenset(" ".join(choice) for choice in pair)
        for pair in _pairs(axes)
        if not works(_of(case, axes, dict(pair)))
    }


def covering(case: Case, axes: Axes, works: Callable[[Case], bool]) -> Iterator[Case]:
    """Cases that `works` lets through and that hold every pair of values that it lets through.

    Pairs that it does not let through are left to the table of wrong combinations.
    """
    left = {pair for pair in _pairs(axes) if works(_of(case, axes, dict(pair)))}
    while left:
        chosen = dict(min(left))
        for axis in axes.keys() - chosen.keys():
            for value in sorted(axes[axis], key=lambda v: -_gain(left, chosen, (axis, v))):
                if works(_of(case, axes, chosen | {axis: value})):
                    chosen[axis] = value
                    break
        left -= {pair for pair in left if pair[0] in chosen.items() and pair[1] in chosen.items()}
        yield _of(case, axes, chosen)


def _pairs(axes: Axes) -> Iterator[tuple[Choice, Choice]]:
    for one, other in combinations(axes, 2):
        for value in axes[one]:
            yield from (((one, value), (other, second)) for second in axes[other])


def _gain(left: set[tuple[Choice, Choice]], chosen: dict[str, str], choice: Choice) -> int:
    return sum((c, choice) in left or (choice, c) in left for c in chosen.items())


def starts() -> Iterator[tuple[Case, Axes]]:
    """Every model with its axes."""
    for (model, device), axes in GRIDS.items():
        yield Case(f"{model} on {device}", model, device=device), axes
    for (model, role), axes in POOLING.items():
        yield Case(f"{model} to {role}", model, role=role), axes


def _of(case: Case, axes: Axes, chosen: dict[str, str]) -> Case:
    options: dict[str, Any] = {}
    for axis, value in chosen.items():
        options |= axes[axis][value]
    transfer = options.pop("kv_transfer", case.kv_transfer)
    name = ", ".join(f"{axis} {value}" for axis, value in sorted(chosen.items()))
    return Case(name, case.model, {**case.options, **options}, case.role, transfer, case.device)
