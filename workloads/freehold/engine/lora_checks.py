"""LoRA adapters: ranks that vLLM has kernels for, and kinds of adapter that it loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .companions import Companions
from .settings import EngineSettings
from .vllm_facts import DEFAULT_LORA_RANK, LORA_RANKS

# Fields of adapter_config.json that vLLM refuses when set (vllm/lora/peft_helper.py).
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "a LoRA bias",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer replication",
    "use_qalora": "QALoRA",
}


def check_lora(settings: EngineSettings, companions: Companions) -> Iterator[str]:
    options = settings.options
    limit = options.max_lora_rank
    if limit is not None and not options.lora:
        yield f"engine.max_lora_rank {limit} has no effect without engine.lora: leave it out"
    if limit is not None and limit not in LORA_RANKS:
        yield (
            f"engine.max_lora_rank {limit} is not one of vLLM's "
            f"{', '.join(str(n) for n in LORA_RANKS)}: {_next_rank(limit)}"
        )
    for place, adapter in enumerate(options.lora):
        config = companions.get(adapter.path, {})
        yield from _adapter(f"engine.lora[{place}] {adapter.name}", config, limit)


def _adapter(who: str, config: Mapping[str, Any], limit: int | None) -> Iterator[str]:
    rank = max([config.get("r", 0), *(config.get("rank_pattern") or {}).values()])
    if rank > (limit or DEFAULT_LORA_RANK):
        yield (
            f"{who} has rank {rank}, more than max_lora_rank {limit or DEFAULT_LORA_RANK}: "
            f"engine.max_lora_rank {_next_rank(rank)}"
        )
    for field, what in _UNSUPPORTED.items():
        if config.get(field):
            yield f"{who} uses {what} ({field}), which vLLM does not load: merge it into the model"
    whole = [name for name in config.get("modules_to_save") or [] if name not in _HEADS]
    if whole:
        yield (
            f"{who} carries whole modules ({', '.join(whole)}), which vLLM does not load: "
            "merge it into the model"
        )


_HEADS = ("classifier", "score")


def _next_rank(rank: int) -> int:
    return next((n for n in LORA_RANKS if n >= rank), LORA_RANKS[-1])
