"""Model folders without weights: the config.json of each shape that matters to an engine's checks.

Sizes are small; the keys are those of the published configs (Llama 3.1 8B, Qwen3 8B, DeepSeek-V3,
all-MiniLM-L6-v2, an EAGLE-3 head), so that vLLM resolves the same architectures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models

Config = dict[str, Any]

LLAMA: Config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 4096,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}
QWEN: Config = LLAMA | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "max_window_layers": 4,
    "use_sliding_window": False,
    "sliding_window": None,
}
DEEPSEEK: Config = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_nextn_predict_layers": 1,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "q_lora_rank": 96,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 4096,
    "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}
BERT: Config = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "vocab_size": 30522,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}
RERANKER: Config = BERT | {
    "architectures": ["BertForSequenceClassification"],
    "num_labels": 1,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
}
DRAFT: Config = LLAMA | {"num_hidden_layers": 1}
OTHER_VOCABULARY: Config = DRAFT | {"vocab_size": 2048}
EAGLE3: Config = LLAMA | {
    "architectures": ["LlamaForCausalLMEagle3"],
    "num_hidden_layers": 1,
    "draft_vocab_size": 1024,
}
_Q = "quantization_config"
QUANTIZED: dict[str, Config] = {
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"},
    "awq": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 64,
        "version": "gemm",
        "zero_point": True,
    },
    "gptq": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 64,
        "desc_act": False,
        "sym": True,
    },
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {
                    "num_bits": 8,
                    "type": "float",
                    "strategy": "channel",
                    "symmetric": True,
                    "dynamic": False,
                },
                "input_activations": {
                    "num_bits": 8,
                    "type": "float",
                    "strategy": "token",
                    "symmetric": True,
                    "dynamic": True,
                },
            }
        },
    },
    "mxfp4": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    "modelopt": {
        "quant_method": "modelopt",
        "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]},
    },
    "modelopt_fp4": {
        "quant_method": "modelopt_fp4",
        "quantization": {
            "quant_algo": "NVFP4",
            "group_size": 16,
            "kv_cache_quant_algo": "FP8",
            "exclude_modules": ["lm_head"],
        },
    },
}
"""The `quantization_config` of checkpoints that come quantized, by method."""


ADAPTERS: dict[str, Config] = {
    "adapter": {"peft_type": "LORA", "r": 16, "target_modules": ["q_proj"]},
    "adapter_rank_64": {"peft_type": "LORA", "r": 8, "rank_pattern": {"q_proj": 64}},
    "adapter_dora": {"peft_type": "LORA", "r": 8, "use_dora": True},
    "adapter_embeddings": {"peft_type": "LORA", "r": 8, "modules_to_save": ["embed_tokens"]},
}
MODELS: dict[str, Config] = {
    "llama": LLAMA,
    "qwen": QWEN,
    "deepseek": DEEPSEEK,
    "bert": BERT,
    "reranker": RERANKER,
    "classifier": RERANKER | {"num_labels": 3, "id2label": {"0": "a", "1": "b", "2": "c"}},
    "draft": DRAFT,
    "other_vocabulary": OTHER_VOCABULARY,
    "eagle3": EAGLE3,
    "eagle3_of_another": EAGLE3 | {"hidden_size": 512},
    **{f"llama_{method}": LLAMA | {_Q: said} for method, said in QUANTIZED.items()},
    "deepseek_fp8": DEEPSEEK | {_Q: QUANTIZED["fp8"]},
    "deepseek_mxfp4": DEEPSEEK | {_Q: QUANTIZED["mxfp4"]},
}


def write(root: Path) -> None:
    """Every model and adapter as a folder under `root`, by name, with a tokenizer of a few words."""
    words = ["<unk>", "</s>", "<think>", "</think>", "yes", "no"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    for name, config in MODELS.items():
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}),
            encoding="utf-8",
        )
    for name, config in ADAPTERS.items():
        folder = root / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
