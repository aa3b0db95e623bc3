"""How long `freehold plan` takes for every stack file here, as a whole process.

    python loadtests/benchmarks/plan/run.py [--runs 10]

Prints wall and CPU seconds, best and median. The aim is half a second for any stack.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
FREEHOLD = Path(sys.executable).with_name("freehold")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    print(f"load of this machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"{'stack':<10} {'wall best':>10} {'median':>8} {'CPU best':>10} {'median':>8}  (seconds)"
    )
    for stack in sorted(file.name.split(".")[1] for file in ROOT.glob("Pulumi.*.yaml")):
        timed = [plan(stack) for _ in range(runs)]
        wall, cpu = ([run[i] for run in timed] for i in (0, 1))
        print(
            f"{stack:<10} {min(wall):>10.3f} {statistics.median(wall):>8.3f} "
            f"{min(cpu):>10.3f} {statistics.median(cpu):>8.3f}"
        )


def plan(stack: str) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    before, began = _children_cpu(), time.perf_counter()
    done = subprocess.run(
        [str(FREEHOLD), "plan", stack], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"freehold plan {stack} failed:\n{done.stderr.decode()}")
    return time.perf_counter() - began, _children_cpu() - before


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
