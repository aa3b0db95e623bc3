"""How long `freehold render` takes for each stack of the checkout, each time as a process of its own.

    .venv/bin/python loadtests/benchmarks/render/run.py [--rounds 5] [STACK ...]

Prints a table: wall clock and processor seconds, median of the rounds. On a busy machine only the second
means anything.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def render(stack: str) -> tuple[float, float]:
    """Wall clock and processor seconds of one run."""
    command = [ROOT / ".venv" / "bin" / "freehold", "render", stack, "--out"]
    with tempfile.TemporaryDirectory() as folder:
        before, began = os.times(), time.monotonic()
        subprocess.run([*command, folder], cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        processor = after.children_user + after.children_system
        processor -= before.children_user + before.children_system
        return time.monotonic() - began, processor


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("stacks", nargs="*", metavar="STACK")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    every = sorted(file.suffixes[0][1:] for file in ROOT.glob("Pulumi.*.yaml"))
    print("| stack | wall s | processor s |\n| --- | --- | --- |")
    for stack in given.stacks or every:
        runs = [render(stack) for _ in range(given.rounds)]
        wall, processor = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| `{stack}` | {wall:.1f} | {processor:.1f} |", flush=True)


if __name__ == "__main__":
    main()
