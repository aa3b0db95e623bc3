"""Every model row is complete and plausible, and any other model can be read from its config.json."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from freehold.catalog.models import (
    BYTES_PER_WEIGHT,
    ModelSpec,
    count_parameters,
    find_model,
    from_config_json,
    load_models,
)
from freehold.config import FreeholdError

MODELS = list(load_models().values())
GENERATE = [model for model in MODELS if model.role == "generate"]

# Registered in the pinned vLLM (tool_parsers/__init__.py, reasoning/__init__.py, 0.32.0).
TOOL_PARSERS = {"llama3_json", "mistral", "hermes", "openai", "gemma4", "deepseek_v3"} | {
    "minimax_m2",
    "kimi_k2",
}
REASONING_PARSERS = {"qwen3", "openai_gptoss", "gemma4", "deepseek_r1", "minimax_m2", "kimi_k2"}


def each(models: list[ModelSpec]) -> Any:
    return pytest.mark.parametrize("model", models, ids=lambda model: model.name)


def test_every_model_that_the_tiers_name_is_there() -> None:
    named = """llama-3.1-8b mistral-7b qwen2.5-7b qwen3-8b llama-3.3-70b mixtral-8x7b qwen2.5-72b
        gpt-oss-20b gpt-oss-120b deepseek-r1 mistral-large-3 gemma-4-31b gemma-4-26b-a4b bge-m3
        bge-reranker-v2-m3 qwen3-embedding-0.6b qwen3-reranker-0.6b"""
    assert not set(named.split()) - load_models().keys()


@each(MODELS)
def test_parameters_are_what_the_architecture_holds(model: ModelSpec) -> None:
    assert count_parameters(model) == pytest.approx(model.parameters, rel=0.02)


@each(MODELS)
def test_active_parameters_are_all_but_the_experts_not_visited(model: ModelSpec) -> None:
    idle = 1 - model.moe.experts_per_token / model.moe.experts if model.moe else 0.0
    expected = model.parameters - idle * model.expert_parameters
    assert model.active_parameters == pytest.approx(expected, rel=0.03)


@each([model for model in MODELS if model.moe])
def test_expert_parameters_are_what_the_experts_hold(model: ModelSpec) -> None:
    assert model.moe
    matrices = 3 * model.hidden * model.moe.intermediate
    counted = matrices * model.moe.experts * model.moe.layers
    assert model.moe.expert_parameters == pytest.approx(counted, rel=0.01)
    assert 0 < model.moe.experts_per_token < model.moe.experts
    assert model.moe.layers <= model.layers


@each(MODELS)
def test_a_row_is_complete_and_plausible(model: ModelSpec) -> None:
    assert sum(group.layers for group in model.attention) == model.layers
    for group in model.attention:
        assert model.heads % group.kv_heads == 0
        assert (group.window is not None) == (group.kind == "sliding")
        assert (group.kv_lora_rank is not None) == (group.kind == "mla")
    assert model.hidden % 64 == 0
    assert 2048 < model.max_context <= 1 << 20
    assert model.licence == model.licence.lower()
    assert model.source
    date.fromisoformat(model.date)
    fields = ModelSpec.__dataclass_fields__
    assert set(model.unverified) <= fields.keys()


@each(MODELS)
def test_checkpoints_are_named_sourced_and_dated(model: ModelSpec) -> None:
    assert model.checkpoints[0].repo == model.repo
    assert model.checkpoints[0].quantization == model.native
    assert len({c.repo for c in model.checkpoints}) == len(model.checkpoints)
    for checkpoint in model.checkpoints:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint.repo)
        assert checkpoint.quantization in BYTES_PER_WEIGHT
        assert checkpoint.source
        date.fromisoformat(checkpoint.date)
        if checkpoint.quantization == "nvfp4":
            assert checkpoint.min_sm == 100  # Blackwell
        if checkpoint.quantization == "fp8":
            assert checkpoint.min_sm == 89  # Ada, Hopper and later


@each(MODELS)
def test_a_size_on_disk_is_what_the_weights_take(model: ModelSpec) -> None:
    known = [c for c in model.checkpoints if c.gib]
    for checkpoint in known:
        # DeepSeek-R1's repository holds its multi-token-prediction layer as well (14B).
        extra = 14e9 if model.name == "deepseek-r1" else 0
        held = model.weights(checkpoint.quantization).total + extra
        assert held / 2**30 == pytest.approx(checkpoint.gib, rel=0.02), checkpoint.repo


@each(GENERATE)
def test_parsers_are_registered_in_the_pinned_engine(model: ModelSpec) -> None:
    assert model.tool_call_parser in TOOL_PARSERS | {None}
    assert model.reasoning_parser in REASONING_PARSERS | {None}


def test_a_model_is_found_by_name_repository_checkpoint_and_alias() -> None:
    for name in (
        "llama-3.3-70b",
        "meta-llama/Llama-3.3-70B-Instruct",
        "nvidia/Llama-3.3-70B-Instruct-FP8",
        "meta-llama/Llama-3.1-70B",
    ):
        found = find_model(name)
        assert found and found.name == "llama-3.3-70b"
    assert find_model("nobody/Nothing-1B") is None


def test_no_repository_belongs_to_two_models() -> None:
    names = [
        name for m in MODELS for name in {m.repo, *m.aliases, *(c.repo for c in m.checkpoints)}
    ]
    assert len(names) == len(set(names))


LLAMA_8B: dict[str, Any] = {  # meta-llama/Meta-Llama-3.1-8B
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
GPT_OSS_20B: dict[str, Any] = {  # openai/gpt-oss-20b
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4"},
}
DEEPSEEK_R1: dict[str, Any] = {  # deepseek-ai/DeepSeek-R1
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8"},
}
GEMMA_4_26B: dict[str, Any] = {  # google/gemma-4-26B-A4B
    "model_type": "gemma4",
    "tie_word_embeddings": True,
    "text_config": {
        "hidden_size": 2816,
        "intermediate_size": 2112,
        "moe_intermediate_size": 704,
        "enable_moe_block": True,
        "num_experts": 128,
        "top_k_experts": 8,
        "num_hidden_layers": 30,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "head_dim": 256,
        "global_head_dim": 512,
        "sliding_window": 1024,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5,
        "vocab_size": 262144,
        "max_position_embeddings": 262144,
    },
}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LLAMA_8B, "llama-3.1-8b"),
        (GPT_OSS_20B, "gpt-oss-20b"),
        (DEEPSEEK_R1, "deepseek-r1"),
        (GEMMA_4_26B, "gemma-4-26b-a4b"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_config_json_gives_what_the_catalog_says(config: dict[str, Any], name: str) -> None:
    read, known = from_config_json(config, "mine"), load_models()[name]
    assert set(read.attention) == set(known.attention)
    assert read.native == known.native
    for field in ("layers", "hidden", "heads", "vocab", "intermediate", "max_context"):
        assert getattr(read, field) == getattr(known, field), field
    language = known.parameters - known.vision_parameters
    assert read.parameters == pytest.approx(language, rel=0.01)
    assert read.weights(read.native).experts == pytest.approx(
        known.weights(known.native).experts, rel=0.01
    )
    assert "licence" in read.unverified


def test_a_config_json_without_a_key_is_refused_by_name() -> None:
    lacking = {key: value for key, value in LLAMA_8B.items() if key != "vocab_size"}
    with pytest.raises(FreeholdError, match=r'config\.json of mine: it has no "vocab_size"'):
        from_config_json(lacking, "mine")
    with pytest.raises(FreeholdError, match="hidden_size is '4096'"):
        from_config_json(LLAMA_8B | {"hidden_size": "4096"}, "mine")
    with pytest.raises(FreeholdError, match="layer_types"):
        from_config_json(LLAMA_8B | {"layer_types": ["mamba"] * 32}, "mine")
