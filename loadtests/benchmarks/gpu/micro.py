"""What this GPU reaches of its data sheet, with PyTorch alone: for a machine without network or vLLM.

    python loadtests/benchmarks/gpu/micro.py [--out FILE.json]

Memory bandwidth, matrix products by shape and precision, attention over a KV cache, and what a kernel launch
costs eagerly and inside a CUDA graph. The shares compare with `general` in
platform/freehold/planning/speed/constants.json: dense_bandwidth, prefill_dense, kv_bandwidth, layer_s.
"""

# PyTorch may not be installed where types are checked.
# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Tokens x (in, out) of one rank's products: decode and prefill of an 8B and of a 70B on four GPUs.
SHAPES = [(t, k, n) for t in (1, 16, 256, 4096) for k, n in ((4096, 14336), (8192, 7168))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no NVIDIA GPU that PyTorch can use here")
    figures = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "bandwidth_gbps": bandwidth(),
        "products": [product(*shape) for shape in SHAPES],
        "attention": [
            attention(batch, context) for batch in (1, 16, 64) for context in (1024, 8192)
        ],
        "launch": launch(),
    }
    for name, value in figures.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name:<16} {line}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


def seconds(work: Callable[[], Any], repeats: int = 50) -> float:
    """Median seconds of one call, by the GPU's own clock."""
    for _ in range(5):
        work()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


def bandwidth(size: int = 1 << 30) -> float:
    """GB/s of a copy, reads and writes together."""
    source = torch.empty(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source)) / 1e9


def product(tokens: int, inner: int, outer: int) -> dict[str, Any]:
    """TFLOP/s and weight GB/s of one product in bf16, and in FP8 where the GPU has it."""
    left = torch.randn(tokens, inner, dtype=torch.bfloat16, device="cuda")
    right = torch.randn(outer, inner, dtype=torch.bfloat16, device="cuda").t()
    found: dict[str, Any] = {"tokens": tokens, "inner": inner, "outer": outer}
    took = seconds(lambda: left @ right)
    found["bf16_tflops"] = 2 * tokens * inner * outer / took / 1e12
    found["bf16_weight_gbps"] = 2 * inner * outer / took / 1e9
    if torch.cuda.get_device_capability() >= (8, 9) and tokens >= 16:
        one = torch.ones((), device="cuda")
        left8, right8 = left.to(torch.float8_e4m3fn), right.to(torch.float8_e4m3fn)
        took = seconds(
            lambda: torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
                left8, right8, scale_a=one, scale_b=one, out_dtype=torch.bfloat16
            )
        )
        found["fp8_tflops"] = 2 * tokens * inner * outer / took / 1e12
    return found


def attention(batch: int, context: int) -> dict[str, Any]:
    """GB/s of KV cache read by one decode step: 32 query heads on 8 KV heads of 128."""
    query = torch.randn(batch, 32, 1, 128, dtype=torch.bfloat16, device="cuda")
    key = torch.randn(batch, 8, context, 128, dtype=torch.bfloat16, device="cuda")
    value = torch.randn_like(key)
    attend = torch.nn.functional.scaled_dot_product_attention
    took = seconds(lambda: attend(query, key, value, enable_gqa=True))
    return {
        "batch": batch,
        "context": context,
        "kv_gbps": 2 * key.numel() * key.element_size() / took / 1e9,
    }


def launch(kernels: int = 1000) -> dict[str, float]:
    """Microseconds of a kernel that does nothing, launched one by one and from a CUDA graph."""
    tensor = torch.zeros(1, device="cuda")

    def work() -> None:
        for _ in range(kernels):
            tensor.add_(1)

    eager = seconds(work, repeats=10)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return {
        "eager_us": 1e6 * eager / kernels,
        "graph_us": 1e6 * seconds(graph.replay, repeats=10) / kernels,
    }


if __name__ == "__main__":
    main()
