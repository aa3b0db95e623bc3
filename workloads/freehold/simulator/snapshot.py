"""The metrics that the simulated engine exports: the pinned vLLM's, read from vLLM itself.

    python -m freehold.simulator.snapshot [--check]

Needs vLLM installed and writes `vllm_metrics.json` beside this file; the simulator itself reads only
that. `--check` writes nothing and exits 1 when it is out of date.
Run it after a change of vLLM's version in the release.
"""

# The engine may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

METRICS = Path(__file__).with_name("vllm_metrics.json")

# Enough of a model for vLLM to make its configuration from; no weights are read.
_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    options = parser.parse_args()
    os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
    text = _one_a_line(vllm_metrics())
    if not options.check:
        METRICS.write_text(text)
    elif not METRICS.exists() or METRICS.read_text() != text:
        sys.exit(f"out of date: {METRICS.name}")


def _one_a_line(entries: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n"


def vllm_metrics() -> list[dict[str, Any]]:
    """Every metric family that an engine with speculation, adapters and a KV connector exports."""
    from prometheus_client import REGISTRY
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    with tempfile.TemporaryDirectory(prefix="freehold-snapshot-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(_MODEL))
        config = AsyncEngineArgs(
            model=folder,
            served_model_name="model",
            skip_tokenizer_init=True,
            enable_lora=True,
            speculative_config={"method": "ngram", "num_speculative_tokens": 1},
        ).create_engine_config()
    config.cache_config.num_gpu_blocks = 1
    logger = PrometheusStatLogger(config)
    logger.log_engine_initialized()
    assert logger.gauge_lora_info is not None
    logger.gauge_lora_info.labels("1", "", "").set(1)
    families = []
    for family in REGISTRY.collect():
        if family.name.startswith("vllm:"):
            families.append(_family(family))
    return families


def _family(family: Any) -> dict[str, Any]:
    samples = [s for s in family.samples if not s.name.endswith("_created")]
    labels = [name for name in samples[0].labels if name != "le"]
    found: dict[str, Any] = {
        "name": family.name,
        "type": family.type,
        "help": family.documentation,
        "labels": labels,
    }
    if family.type == "histogram":
        found["buckets"] = _buckets(samples)
    elif family.name.endswith("_info"):
        found["defaults"] = {name: samples[0].labels[name] for name in labels}
    else:
        other = next((n for n in labels if n not in ("model_name", "engine")), None)
        if other:
            found["values"] = [s.labels[other] for s in samples]
    return found


def _buckets(samples: list[Any]) -> list[float]:
    bounds: list[float] = []
    for sample in samples:
        if sample.name.endswith("_bucket"):
            bound = float(sample.labels["le"])
            if bound in bounds:
                break
            bounds.append(bound)
    return [bound for bound in bounds if bound != float("inf")]


if __name__ == "__main__":
    main()
