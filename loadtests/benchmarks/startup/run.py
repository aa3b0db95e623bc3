"""How long `make up` takes, cold and warm, and where the time goes.

    python loadtests/benchmarks/startup/run.py [--cold] [--out DIR]

Warm: this checkout, packages installed, nothing running. Cold: a fresh clone with an empty package
cache, so everything is downloaded again (about 3.4 GB); what is downloaded and what is started are
timed apart. The stack's own ports must be free.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cold", action="store_true", help="also from an empty package cache")
    parser.add_argument("--out", type=Path, help="folder for startup.json")
    options = parser.parse_args()
    results = [*cold()] if options.cold else []
    results.append(up("warm", ROOT))
    for result in results:
        show(result)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "startup.json").write_text(json.dumps(results, indent=2) + "\n")


def cold() -> list[dict[str, Any]]:
    """Install and first start of a fresh clone with an empty package cache."""
    with tempfile.TemporaryDirectory(prefix="freehold-cold-") as folder:
        clone = Path(folder) / "freehold"
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], ROOT)
        empty = {"UV_CACHE_DIR": str(Path(folder) / "cache"), "PIP_NO_CACHE_DIR": "1"}
        seconds = run(["make", "env-cpu"], clone, empty)
        install = {"what": "cold: packages", "seconds": seconds, "processes": {}}
        return [install, up("cold: first start", clone)]


def up(what: str, checkout: Path) -> dict[str, Any]:
    """Start the local stack, read what each process took, stop it."""
    try:
        seconds = run(["make", "up"], checkout)
        state = json.loads((checkout / ".freehold" / "local" / "state.json").read_text())
        processes = {p["name"]: p["ready_seconds"] for p in state["processes"]}
    finally:
        run(["make", "down"], checkout)
    return {"what": what, "seconds": seconds, "processes": processes}


def run(command: list[str], folder: Path, env: dict[str, str] | None = None) -> float:
    """Seconds that a command took; its failure is this program's."""
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return time.monotonic() - started


def show(result: dict[str, Any]) -> None:
    print(f"{result['what']}: {result['seconds']:.0f} s")
    for name, seconds in sorted(result["processes"].items(), key=lambda item: item[1]):
        print(f"    {name:<14} healthy {seconds:6.1f} s after its start")


if __name__ == "__main__":
    main()
