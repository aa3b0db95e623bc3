"""What the pinned vLLM knows, as data: so that a plan can be refused without importing vLLM.

All read from vLLM 0.32.0 (2026-11-23); tests marked `vllm` compare each with the installed package.
"""

from __future__ import annotations

# vllm/tool_parsers/__init__.py
TOOL_PARSERS = frozenset(
    (
        "apertus",
        "cohere_command3",
        "cohere_command4",
        "deepseek_v3",
        "deepseek_v31",
        "deepseek_v32",
        "deepseek_v4",
        "deepseek_v41",
        "dots",
        "ernie45",
        "functiongemma",
        "gemma4",
        "gigachat3",
        "glm45",
        "glm47",
        "granite",
        "granite-20b-fc",
        "granite4",
        "hermes",
        "hf",
        "hunyuan_a13b",
        "hy_v3",
        "hy_v4",
        "inkling",
        "internlm",
        "jamba",
        "k2_horizon",
        "kimi_k2",
        "kimi_k3",
        "lfm2",
        "ling3",
        "llama3_json",
        "llama4_json",
        "llama4_pythonic",
        "longcat",
        "mimo",
        "minicpm5",
        "minimax_m2",
        "minimax_m3",
        "mistral",
        "muse_glimmer",
        "olmo3",
        "openai",
        "phi4_mini_json",
        "plamo3",
        "poolside_v1",
        "pythonic",
        "qwen3_coder",
        "qwen3_json",
        "qwen3_xml",
        "seed_oss",
        "step3",
        "step3p5",
        "xlam",
    )
)
# vllm/reasoning/__init__.py
REASONING_PARSERS = frozenset(
    (
        "cohere_command3",
        "cohere_command4",
        "deepseek_r1",
        "deepseek_v3",
        "deepseek_v4",
        "deepseek_v41",
        "ernie45",
        "gemma4",
        "glm45",
        "glm47",
        "granite",
        "granite_thinking_parser",
        "hf",
        "holo2",
        "hunyuan_a13b",
        "hy_v3",
        "hy_v4",
        "inkling",
        "k2_horizon",
        "kimi_k2",
        "kimi_k3",
        "ling3",
        "mimo",
        "minicpmv",
        "minimax_m2",
        "minimax_m2_append_think",
        "minimax_m3",
        "mistral",
        "muse_glimmer",
        "nemotron_v3",
        "olmo3",
        "openai_gptoss",
        "plamo3",
        "poolside_v1",
        "qwen3",
        "seed_oss",
        "step3",
        "step3p5",
    )
)
# vllm/config/lora.py, MaxLoRARanks; the default is 16
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_LORA_RANK = 16

# Methods that vLLM applies to 16-bit weights while it loads them (each tried on an unquantized
# config.json); every other one needs a checkpoint that comes quantized.
QUANTIZES_ON_LOAD = frozenset(
    {"fp8", "fp8_per_tensor", "fp8_per_block", "experts_int8", "int8_per_channel_weight_only"}
)
# A checkpoint's quant_method -> what --quantization may say about it on a GPU; a method that is not
# listed takes its own name alone. From vllm/config/model.py, _verify_quantization.
CHECKPOINT_TAKES = {
    "awq": ("awq", "awq_marlin", "moe_wna16"),
    "gptq": ("gptq", "gptq_marlin", "moe_wna16"),
}
# get_supported_act_dtypes() of each method; compressed-tensors alone does not look.
FLOAT32_QUANTIZATION = frozenset({"compressed-tensors"})
FLOAT16_REFUSED = frozenset({"mxfp4"})

# Keys of config.json that count a checkpoint's multi-token-prediction layers, and the architectures for
# which vLLM assumes one where none does (vllm/config/speculative.py, hf_config_override).
MTP_COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
MTP_WITHOUT_COUNT = frozenset(
    {
        "LongcatFlashForCausalLM",
        "MiMoV2FlashForCausalLM",
        "MiMoV2ForCausalLM",
        "MiMoV2OmniForCausalLM",
        "MiniMaxM3SparseForConditionalGeneration",
        "Step3p5ForCausalLM",
    }
)
# Counts such layers in its config, but they are DSpark stages that method mtp cannot use.
MTP_REFUSED_TYPES = frozenset({"deepseek_v41"})

# Decoders that hand EAGLE-3's hidden states on between pipeline stages
# (`supports_aux_hidden_states_over_pp` in vllm/model_executor/models).
EAGLE3_OVER_PIPELINE = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
)
# Encoders: they embed or rank and do not generate; no pipeline parallel (no SupportsPP), and a whole
# prompt in one step (no chunked prefill).
ENCODERS = (
    "Bert",
    "GteModel",
    "GteNew",
    "ModernBert",
    "NomicBert",
    "Roberta",
    "XLMRoberta",
)
"""Architecture names begin with one of these."""
