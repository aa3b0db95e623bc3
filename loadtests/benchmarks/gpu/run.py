"""Measure a model's shape on this machine's NVIDIA GPUs, beside what the plan says.

    python loadtests/benchmarks/gpu/run.py llama-3.1-8b --tensor-parallel 1 --out DIR

Starts the pinned vLLM with dummy weights of the model's shape (nothing is downloaded), runs
`vllm bench serve` over a sweep of concurrency, prints planned against measured memory, TTFT and TPOT, and
appends a row for each point to DIR/rows.csv, in the columns of platform/freehold/catalog/measured: put it
there and calibrate.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import results  # pyright: ignore[reportMissingImports]  (beside this script)
import shape  # pyright: ignore[reportMissingImports]

from freehold.catalog.gpus import Gpu, load_gpus
from freehold.catalog.models import ModelSpec, find_model, from_config_json
from freehold.config import FreeholdError
from freehold.planning.memory import Engine, Split, engine_memory
from freehold.planning.speed import Deployment, Load, predict

# vllm bench serve without its console script, which not every build carries.
BENCH = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main;"
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)
ENGINE_MEMORY_SHARE = 0.9
REQUESTS_A_CLIENT = 10  # so that the burst at the start is a tenth of all


def main() -> None:
    options = arguments()
    try:
        measure(options)
    except FreeholdError as error:
        sys.exit(f"gpu benchmark: {error}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", help="a model of the catalog, or any name with --model-config")
    parser.add_argument(
        "--model-config", type=Path, help="config.json of a model not in the catalog"
    )
    parser.add_argument(
        "--quantization", choices=["fp8"], help="quantize the dummy weights on load"
    )
    parser.add_argument("--kv-cache-dtype", choices=["bf16", "fp8"], default="bf16")
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--pipeline-parallel", type=int, default=1)
    parser.add_argument("--input-tokens", type=int, default=1024)
    parser.add_argument("--output-tokens", type=int, default=256)
    parser.add_argument("--concurrency", default="1,4,16,64", help="sweep, comma separated")
    parser.add_argument("--port", type=int, default=18999)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def measure(options: argparse.Namespace) -> None:
    model, config = subject(options)
    gpu = this_gpu()
    weights = options.quantization or model.native
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="freehold-shape-") as folder:
        shape.write_folder(config, Path(folder))
        log = options.out / "engine.log"
        engine = start(options, folder, log)
        try:
            wait(engine, options.port, log)
            show_memory(options, model, gpu, weights, log)
            print(f"{'':<22} {'planned':>10} {'measured':>10}")
            for concurrency in (int(value) for value in options.concurrency.split(",")):
                point(options, model, gpu, weights, folder, concurrency)
        finally:
            stop(engine)


def subject(options: argparse.Namespace) -> tuple[ModelSpec, dict[str, Any]]:
    """The model and the config.json that the engine gets."""
    if options.model_config:
        config = json.loads(options.model_config.read_text())
        return from_config_json(config, options.model), config
    model = find_model(options.model)
    if model is None:
        raise FreeholdError(f"{options.model} is not in the catalog; give --model-config")
    return model, shape.config_of(model)


def this_gpu() -> Gpu:
    """The catalog's row for the first GPU of this machine."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise FreeholdError("no NVIDIA GPU here: nvidia-smi does not answer") from None
    name = done.stdout.splitlines()[0]
    # The longest name first: "L40S" is no "L4".
    for known in sorted(load_gpus(), key=len, reverse=True):
        if known.split("-")[0] in name:
            return load_gpus()[known]
    raise FreeholdError(f"{name} is not in the catalog (platform/freehold/catalog/gpus.yaml)")


def start(options: argparse.Namespace, folder: str, log: Path) -> subprocess.Popen[bytes]:
    length = options.input_tokens + options.output_tokens + 64
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", folder, "--served-model-name", "shape", "--load-format", "dummy"]
    command += ["--port", str(options.port), "--max-model-len", str(length)]
    command += ["--tensor-parallel-size", str(options.tensor_parallel)]
    command += ["--pipeline-parallel-size", str(options.pipeline_parallel)]
    command += ["--gpu-memory-utilization", str(ENGINE_MEMORY_SHARE)]
    command += ["--no-enable-prefix-caching"]  # random prompts repeat between points of the sweep
    if options.quantization:
        command += ["--quantization", options.quantization]
    if options.kv_cache_dtype == "fp8":
        command += ["--kv-cache-dtype", "fp8"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def wait(engine: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(1800):
        if engine.poll() is not None:
            raise FreeholdError(f"the engine ended with code {engine.returncode}: see {log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise FreeholdError(f"the engine was not ready in 30 minutes: see {log}")


def stop(engine: subprocess.Popen[bytes]) -> None:
    """The engine and its ranks: they are a process group of their own."""
    if engine.poll() is None:
        os.killpg(engine.pid, signal.SIGTERM)
        try:
            engine.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(engine.pid, signal.SIGKILL)


def show_memory(
    options: argparse.Namespace, model: ModelSpec, gpu: Gpu, weights: str, log: Path
) -> None:
    split = Split(options.tensor_parallel, options.pipeline_parallel)
    context = options.input_tokens + options.output_tokens + 64
    engine = Engine(model, weights, split, options.kv_cache_dtype, context, 8192)
    planned = engine_memory(engine, gpu, ENGINE_MEMORY_SHARE)
    found = results.memory_from_log(log.read_text(errors="replace"))
    print(f"{model.name} {weights} on {gpu.name}, {split}; a GPU's memory")
    print(f"{'':<22} {'planned':>10} {'measured':>10}")
    print(results.against("weights", planned.weights, found.weights_gib, "GiB"))
    print(results.against("KV cache", planned.kv_cache, found.kv_gib, "GiB"))


def point(
    options: argparse.Namespace,
    model: ModelSpec,
    gpu: Gpu,
    weights: str,
    folder: str,
    concurrency: int,
) -> None:
    name = f"c{concurrency}.json"
    bench(options, folder, concurrency, name)
    result = json.loads((options.out / name).read_text())
    asked = {
        "system": gpu.systems[0],
        "model": model.repo,
        "precision": weights,
        "input_tokens": options.input_tokens,
        "output_tokens": options.output_tokens,
        "tensor_parallel": options.tensor_parallel,
        "pipeline_parallel": options.pipeline_parallel,
    }
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        row = results.row_of(asked, result, version("vllm"), today)
    except ValueError as error:
        raise FreeholdError(f"concurrency {concurrency}: {error}; see {options.out}") from None
    results.append(options.out / "rows.csv", row)
    deployment = Deployment(
        model=model,
        gpu=gpu,
        weights=weights,
        kv_dtype=options.kv_cache_dtype,
        tensor_parallel=options.tensor_parallel,
        pipeline_parallel=options.pipeline_parallel,
    )
    planned = predict(deployment, Load(options.input_tokens, options.output_tokens, concurrency))
    at = f"concurrency {concurrency}"
    ttft, tpot = float(row["ttft_ms"]), float(row["tpot_ms"])
    print(results.against(f"{at}: TTFT", planned.median_ttft_ms, ttft, "ms"))
    print(results.against(f"{at}: TPOT", planned.median_tpot_ms, tpot, "ms"))


def bench(options: argparse.Namespace, folder: str, concurrency: int, name: str) -> None:
    command = [sys.executable, "-c", BENCH, "--backend", "openai"]
    command += ["--base-url", f"http://127.0.0.1:{options.port}", "--model", "shape"]
    command += ["--tokenizer", folder, "--dataset-name", "random", "--ignore-eos"]
    command += ["--random-input-len", str(options.input_tokens)]
    command += ["--random-output-len", str(options.output_tokens)]
    command += ["--max-concurrency", str(concurrency)]
    command += ["--num-prompts", str(REQUESTS_A_CLIENT * concurrency)]
    command += ["--seed", str(concurrency), "--save-result"]
    command += ["--result-dir", str(options.out), "--result-filename", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FreeholdError(f"vllm bench serve failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
