"""What a config.json says about a model, as far as an engine's settings depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .vllm_facts import ENCODERS, MTP_COUNTS, MTP_REFUSED_TYPES, MTP_WITHOUT_COUNT

# Names that families give to the same number (vllm/transformers_utils/model_arch_config_convertor.py).
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# RoPE kinds whose max_position_embeddings is already the stretched one (vllm/config/model.py).
_ALREADY_SCALED = frozenset(
    {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
)


@dataclass(frozen=True)
class ModelFacts:
    """A config.json, with the engine's `hf_overrides` laid over it; None where it does not say."""

    config: Mapping[str, Any]

    @property
    def text(self) -> Mapping[str, Any]:
        """The language model's part of a multimodal config."""
        return self.config.get("text_config") or self.config

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(self.config.get("architectures") or ())

    @property
    def heads(self) -> int | None:
        return self._first(_HEADS)

    @property
    def layers(self) -> int | None:
        return self._first(_LAYERS)

    @property
    def vocabulary(self) -> int | None:
        return self._first(("vocab_size",))

    @property
    def hidden(self) -> int | None:
        return self._first(("hidden_size", "n_embd", "d_model"))

    @property
    def experts(self) -> int | None:
        return self._first(_EXPERTS)

    @property
    def is_encoder(self) -> bool:
        return any(name.startswith(ENCODERS) for name in self.architectures)

    @property
    def is_eagle3(self) -> bool:
        return any("Eagle3" in name for name in self.architectures)

    @property
    def is_sparse(self) -> bool:
        """DeepSeek-V3.2's sparse attention, with an indexer that picks tokens."""
        return "index_topk" in self.text

    @property
    def has_mla(self) -> bool:
        return self.text.get("kv_lora_rank") is not None

    @property
    def mtp_layers(self) -> int:
        """Multi-token-prediction layers that vLLM can draft with."""
        if self.config.get("model_type") in MTP_REFUSED_TYPES:
            return 0
        for part in (self.config, self.text, self.config.get("mtp_config") or {}):
            for key in MTP_COUNTS:
                if part.get(key) is not None:
                    return int(part[key])
        return int(any(name in MTP_WITHOUT_COUNT for name in self.architectures))

    @property
    def labels(self) -> int | None:
        """Classes of a classifier; a reranker has one."""
        names = self.config.get("id2label")
        return self.config.get("num_labels") or (len(names) if names else None)

    @property
    def quantization(self) -> str | None:
        """How the checkpoint comes quantized, by vLLM's name."""
        said = (
            self.config.get("quantization_config")
            or self.config.get("compression_config")
            or self.text.get("quantization_config")
        )
        if not said:
            return None
        method = str(said.get("quant_method", "")).lower().replace("_tensors", "-tensors")
        if said.get("producer", {}).get("name") == "modelopt":
            algorithm = said.get("quant_algo") or said.get("quantization", {}).get("quant_algo", "")
            return "modelopt_fp4" if str(algorithm).upper() == "NVFP4" else method or "modelopt"
        return method or None

    @property
    def longest(self) -> int | None:
        """Tokens that the position embeddings reach, as vLLM derives it."""
        said = [self.text[key] for key in _LENGTHS if isinstance(self.text.get(key), int)]
        if not said:
            return None
        longest = self.text.get("model_max_length") or min(said)
        rope = self.text.get("rope_parameters") or self.text.get("rope_scaling") or {}
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if kind not in _ALREADY_SCALED and "gemma3" not in self.config.get("model_type", ""):
            longest *= rope.get("factor") or 1
        return int(longest)

    def _first(self, keys: tuple[str, ...]) -> int | None:
        found = (self.text.get(key) for key in keys)
        return next((value for value in found if isinstance(value, int)), None)


def facts(config: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> ModelFacts:
    """Facts of a config.json under `hf_overrides`; a nested map adds to the nested map there."""
    merged = dict(config)
    for key, value in (overrides or {}).items():
        old = merged.get(key)
        merged[key] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return ModelFacts(merged)
