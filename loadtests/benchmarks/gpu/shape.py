"""A model folder with a model's shape and nothing of its contents: config.json and a tokenizer.

The engine fills it with dummy weights (`--load-format dummy`), so nothing is downloaded. What decides speed
is kept: layers, widths, heads, experts, attention kinds, vocabulary. The architecture is the plainest one of
vLLM with that shape, so small kernels (a norm more or less, biases) may differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

from freehold.catalog.models import ModelSpec
from freehold.config import FreeholdError

# Words of the tokenizer: every random prompt is so many of them, exactly, there and back.
WORDS = 8192


def config_of(model: ModelSpec) -> dict[str, Any]:
    """A config.json of this shape. Raises FreeholdError where vLLM has no plain architecture for it."""
    kinds = {group.kind for group in model.attention}
    config = _common(model)
    if kinds == {"mla"}:
        return config | _latent(model)
    if kinds == {"full", "sliding"} and model.moe and model.native == "mxfp4":
        return config | _gpt_oss(model)
    if kinds == {"full"} and model.moe and not model.moe.shared_intermediate:
        return config | _experts(model)
    if kinds == {"full"} and not model.moe and model.gated_mlp:
        return config | _dense(model)
    raise FreeholdError(
        f"the shape of {model.name} ({', '.join(sorted(kinds))} attention) has no plain architecture; "
        "give its own config.json with --model-config"
    )


def write_folder(config: dict[str, Any], folder: Path) -> None:
    """config.json and a tokenizer of single words, into a folder that exists."""
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    words = {f"w{index}": index for index in range(WORDS - 1)} | {"<unk>": WORDS - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "model_max_length": 1 << 20,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def _common(model: ModelSpec) -> dict[str, Any]:
    return {
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "vocab_size": max(model.vocab, WORDS),
        "max_position_embeddings": model.max_context,
        "tie_word_embeddings": model.tied_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def _dense(model: ModelSpec) -> dict[str, Any]:
    group = model.attention[0]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "intermediate_size": model.intermediate,
        "num_key_value_heads": group.kv_heads,
        "head_dim": group.head_dim,
    }


def _experts(model: ModelSpec) -> dict[str, Any]:
    group, moe = model.attention[0], model.moe
    assert moe
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "intermediate_size": model.intermediate or moe.intermediate,
        "moe_intermediate_size": moe.intermediate,
        "num_experts": moe.experts,
        "num_experts_per_tok": moe.experts_per_token,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(range(model.layers - moe.layers)),
        "norm_topk_prob": True,
        "num_key_value_heads": group.kv_heads,
        "head_dim": group.head_dim,
    }


def _latent(model: ModelSpec) -> dict[str, Any]:
    group, moe = model.attention[0], model.moe
    assert moe
    rope = group.rope_head_dim or 0
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "intermediate_size": model.intermediate,
        "moe_intermediate_size": moe.intermediate,
        "first_k_dense_replace": model.layers - moe.layers,
        "moe_layer_freq": 1,
        "n_routed_experts": moe.experts,
        "n_shared_experts": moe.shared_intermediate // moe.intermediate,
        "num_experts_per_tok": moe.experts_per_token,
        "n_group": 1,
        "topk_group": 1,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
        "num_key_value_heads": model.heads,
        "kv_lora_rank": group.kv_lora_rank,
        "q_lora_rank": group.q_lora_rank,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": group.head_dim - rope,
        "v_head_dim": group.v_head_dim,
    }


def _gpt_oss(model: ModelSpec) -> dict[str, Any]:
    full = next(group for group in model.attention if group.kind == "full")
    sliding = next(group for group in model.attention if group.kind == "sliding")
    moe = model.moe
    assert moe
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "intermediate_size": moe.intermediate,
        "num_local_experts": moe.experts,
        "num_experts_per_tok": moe.experts_per_token,
        "num_key_value_heads": full.kv_heads,
        "head_dim": full.head_dim,
        "sliding_window": sliding.window,
        "layer_types": ["sliding_attention", "full_attention"] * full.layers,
        "attention_bias": True,
        "swiglu_limit": 7.0,
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
        },
    }
