"""What the load generator costs and how exact it is, beside `vllm bench serve`.

    python loadtests/benchmarks/load/run.py [--streams 200] [--rounds 3] [--out DIR]
    FREEHOLD_API_KEY=... python loadtests/benchmarks/load/run.py \\
        --base-url http://127.0.0.1:8080 --model chat --tokenizer FOLDER --streams 4 --rounds 5

The first compares on a server of known latency: 200 streams of an event every 20 ms are 10,000 events
a second, and it tells what it really sent. The second compares on a real stack: ratios only, for
nobody knows the truth there, and on a laptop the engines share the cores with the client.

Without the pinned vLLM (`make env-cpu`) its column is left out. Wants two cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from freehold.load.beside_vllm import bench_serve, have_vllm
from freehold.load.deterministic import deterministic_server

_OURS = Path(__file__).with_name("ours.py")
_TOKENS = 100
# vLLM's start (imports, a test request) is taken off by a run of so few requests.
_FEW = 1
_ROWS = (
    ("events_per_second", "events a second", "{:,.0f}"),
    ("cpu_us_per_event", "CPU an event, µs", "{:.1f}"),
    ("ttft_error_ms", "TTFT error, ms", "{:+.2f}"),
    ("itl_error_ms", "ITL error, ms", "{:+.3f}"),
    ("true_peak", "in flight, true", "{:.0f}"),
    ("peak", "in flight, as told", "{:.0f}"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base-url", help="a real stack instead; the key is in FREEHOLD_API_KEY")
    parser.add_argument("--model", default="chat")
    parser.add_argument("--tokenizer", type=Path, help="of the model, for vLLM's tool")
    parser.add_argument("--out", type=Path, help="folder for load.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = real(options, Path(folder)) if options.base_url else known(options, Path(folder))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "load.json").write_text(json.dumps(found, indent=2) + "\n")


def known(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Cost and error on the deterministic server."""
    found: dict[str, list[dict[str, float]]] = {"freehold": []}
    if have_vllm():
        found["vllm bench serve"] = []
    else:
        print("the pinned vLLM is not installed (make env-cpu): only our own figures")
    server = ("--ttft-ms", "200", "--itl-ms", "20", "--no-role-chunk")
    with deterministic_server(*server) as url:
        idle = bench_serve(url, folder, requests=_FEW, concurrency=1) if have_vllm() else None
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            found["freehold"].append(_freehold(url, options.streams))
            if idle is not None:
                theirs = _vllm(url, folder, options.streams, idle.cpu_seconds)
                found["vllm bench serve"].append(theirs)
    _show(found)
    return found


def real(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Interleaved rounds on a real stack, and our medians over vLLM's."""
    if not have_vllm():
        sys.exit(
            "the pinned vLLM is not installed (make env-cpu): there is nothing to compare with"
        )
    if options.tokenizer is None:
        sys.exit("--tokenizer: vLLM's tool wants the model's")
    names = ("median_ttft_ms", "median_tpot_ms", "median_itl_ms")
    ratios: list[dict[str, float]] = []
    for number in range(options.rounds):
        # As long prompts as ours were by the server's count.
        ours = _generator(options.base_url, options.streams, 4, 32, options.model)
        theirs = bench_serve(
            options.base_url,
            folder,
            requests=options.streams * 4,
            concurrency=options.streams,
            input_tokens=round(ours["input_tokens"]),
            output_tokens=32,
            model=options.model,
            tokenizer=options.tokenizer,
            api_key=os.environ.get("FREEHOLD_API_KEY"),
        ).result
        ratios.append({name: ours[name] / theirs[name] for name in names})
        print(f"round {number + 1}: " + ", ".join(f"{n} {v:.3f}" for n, v in ratios[-1].items()))
    for name in names:
        print(f"{name}: ours over vLLM's {statistics.median(r[name] for r in ratios):.3f}")
    return {"ratios": ratios}


def _generator(
    url: str, streams: int, rounds: int, tokens: int, model: str = "deterministic"
) -> dict[str, float]:
    command = [sys.executable, str(_OURS), url, str(streams), str(rounds), str(tokens), model]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return json.loads(done.stdout)


def _freehold(url: str, streams: int) -> dict[str, float]:
    _truth(url)
    result = _generator(url, streams, 4, _TOKENS)
    return {
        "events_per_second": result["events_per_second"],
        "cpu_us_per_event": result["cpu_us_per_event"],
        "true_peak": streams,
        "peak": result["max_concurrent_requests"],
        **_errors(url, result),
    }


def _vllm(url: str, folder: Path, streams: int, idle: float) -> dict[str, float]:
    _truth(url)
    run = bench_serve(url, folder, requests=streams * 4, concurrency=streams, output_tokens=_TOKENS)
    result = run.result
    events = result["completed"] * _TOKENS
    return {
        "events_per_second": events / result["duration"],
        "cpu_us_per_event": (run.cpu_seconds - idle) / events * 1e6,
        "true_peak": streams,
        "peak": result["max_concurrent_requests"],
        **_errors(url, result),
    }


def _errors(url: str, result: dict[str, Any]) -> dict[str, float]:
    truth = _truth(url)
    return {
        f"{name}_error_ms": result[f"median_{name}_ms"] - truth[f"median_{name}_ms"]
        for name in ("ttft", "itl")
    }


def _truth(url: str) -> dict[str, float]:
    return httpx.get(f"{url}/truth", timeout=30, trust_env=False).json()


def _show(found: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'median of the rounds':<24}" + "".join(f"{name:>20}" for name in found))
    for key, name, form in _ROWS:
        cells = [
            form.format(statistics.median(r[key] for r in rounds)) for rounds in found.values()
        ]
        print(f"{name:<24}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
