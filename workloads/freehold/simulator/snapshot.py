"""What the simulated engine knows of the pinned vLLM: its flags and its metrics, read from vLLM itself.

    python -m freehold.simulator.snapshot [--check]

Needs vLLM installed and writes `vllm_flags.json` and `vllm_metrics.json` beside this file; the
simulator itself reads only those. `--check` writes nothing and exits 1 when they are out of date.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FLAGS, METRICS = HERE / "vllm_flags.json", HERE / "vllm_metrics.json"

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
    parser.add_argument("--check", action="store_true", help="only say whether they are current")
    options = parser.parse_args()
    os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
    outdated = []
    for path, read in ((FLAGS, vllm_flags), (METRICS, vllm_metrics)):
        text = _one_a_line(read())
        if not path.exists() or path.read_text() != text:
            outdated.append(path.name)
        if not options.check:
            path.write_text(text)
    if options.check and outdated:
        sys.exit(f"out of date: {', '.join(outdated)}")


def _one_a_line(entries: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n"


def vllm_flags() -> list[dict[str, Any]]:
    """Every option of the API server's parser: its names, how many values it takes, of what kind."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    return [_flag(action) for action in parser._actions if action.dest != "help"]


def _flag(action: argparse.Action) -> dict[str, Any]:
    flag: dict[str, Any] = {"names": list(action.option_strings) or [action.dest]}
    if isinstance(action, argparse.BooleanOptionalAction):
        return {**flag, "values": "switch"}
    flag["values"] = {0: "none", None: "one"}.get(action.nargs, action.nargs)  # type: ignore[arg-type]
    if flag["values"] == "none":
        return flag
    kind = _kind(action.type)
    if kind != "text":
        flag["kind"] = kind
    if action.choices:
        flag["choices"] = list(action.choices)
    return flag


def _kind(convert: Any) -> str:
    """Of what kind an option's values are, found by trying: vLLM's converters have no names."""
    if convert in (None, str):
        return "text"
    for kind, sample, expected in (
        ("json", "{}", dict),
        ("size", "4k", int),
        ("int", "7", int),
        ("float", "0.5", float),
        ("text", "anything", str),
    ):
        if isinstance(_tried(convert, sample), expected):
            return kind
    return "json"


def _tried(convert: Callable[[str], Any], sample: str) -> Any:
    try:
        return convert(sample)
    except Exception:  # any error means: not of this kind
        return None


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
