"""`vllm bench serve` on a server, for setting its figures beside ours. Needs the pinned vLLM."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# vLLM's command line asks for its own distribution's name, which the CPU build lacks: its functions do not.
_PROGRAM = """
import argparse, json, sys
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args(sys.argv[1:]))
"""


@dataclass(frozen=True)
class BenchRun:
    result: dict[str, Any]
    """Its result file."""
    cpu_seconds: float
    """Of the whole process, imports included."""


def have_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def bench_serve(
    url: str,
    folder: Path,
    *,
    requests: int,
    concurrency: int,
    input_tokens: int = 32,
    output_tokens: int = 20,
    model: str = "deterministic",
    tokenizer: Path | None = None,
    api_key: str | None = None,
) -> BenchRun:
    """Run it in a process of its own with random prompts; of a word vocabulary without a tokenizer."""
    tokenizer = tokenizer or word_tokenizer(folder / "tokenizer")
    result = folder / "vllm.json"
    command = [sys.executable, "-c", _PROGRAM, "--backend", "openai-chat", "--base-url", url]
    command += ["--endpoint", "/v1/chat/completions", "--model", model]
    command += ["--tokenizer", str(tokenizer), "--dataset-name", "random", "--ignore-eos"]
    command += ["--random-input-len", str(input_tokens), "--random-output-len", str(output_tokens)]
    command += ["--num-prompts", str(requests), "--max-concurrency", str(concurrency)]
    command += ["--save-result", "--result-filename", str(result), "--disable-tqdm"]
    env = {**os.environ, **({"OPENAI_API_KEY": api_key} if api_key else {})}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"vllm bench serve failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return BenchRun(json.loads(result.read_text()), cpu)


def word_tokenizer(folder: Path) -> Path:
    """A tokenizer whose tokens are words, as the deterministic server counts."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{number}": number for number in range(2000)} | {"[UNK]": 2000}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
