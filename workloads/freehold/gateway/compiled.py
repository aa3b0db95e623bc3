"""The compiled picker (workloads/picker, in Go), where it has been built from the sources as they are:
`make picker`, or `python -m freehold.gateway.compiled`. Elsewhere the picker is `freehold.gateway.picker`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "picker"


def program() -> Path | None:
    """The binary of these very sources; None where there is none."""
    place = _place()
    return place if place and place.exists() else None


def why_not() -> str | None:
    """Why it cannot be built here; None where it can."""
    if not SOURCES.is_dir():
        return f"its sources are not there: {SOURCES}"
    if shutil.which("go") is None:
        return "Go is missing, 1.26 or newer (go.dev/dl)"
    return None


def build() -> Path:
    """The binary, built where it is not there yet. Raises CalledProcessError after Go's own words."""
    place = _place()
    assert place is not None, f"no sources in {SOURCES}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        made = place.with_suffix(f".{os.getpid()}")
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
        command = ["go", "build", "-trimpath", "-o", str(made), "."]
        subprocess.run(command, cwd=SOURCES, env=environment, check=True)
        made.rename(place)  # nobody sees half a program
    return place


def _place() -> Path | None:
    """Named by what it is built from, so that a changed source is not answered by an old program."""
    files = sorted(path for path in SOURCES.glob("*") if path.suffix in (".go", ".mod", ".sum"))
    if not files:
        return None
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    return SOURCES.parents[1] / ".freehold" / "tools" / f"picker-{digest[:12]}"


def main() -> int:
    if reason := why_not():
        print(f"the compiled picker cannot be built: {reason}", file=sys.stderr)
        return 2
    print("building the picker (the first time fetches Go modules)", file=sys.stderr, flush=True)
    try:
        print(build())
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
