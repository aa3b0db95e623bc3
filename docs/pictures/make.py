"""Take the documentation's pictures anew, each of a real run with simulated engines: seven minutes.

    .venv/bin/python docs/pictures/make.py [--only NAME]

Needs Chromium or Chrome on the PATH, and the preset stack `small`, whose ports must be free. Another
picture is another function in PICTURES; `shoot` takes any page. `stack` draws the laptop's stack as it runs:
after `make up` that is one with real engines.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from stack_drawing import Running, draw

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNS = ROOT / ".freehold" / "pictures"
FREEHOLD = Path(sys.executable).with_name("freehold")
GATEWAY, LOCUST = "http://127.0.0.1:8080", "http://127.0.0.1:8089"
_QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def shoot(
    url: str, name: str, height: int, *, width: int = 1240, dark: bool = False, wait: float = 0.0
) -> None:
    """`NAME.png` beside this file: what a browser of that size shows of a page, after `wait` seconds."""
    browser = next((found for each in _BROWSERS if (found := shutil.which(each))), None)
    if browser is None:
        sys.exit(f"no browser found: install one of {', '.join(_BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *_QUIET, "--disable-background-networking", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        command += [f"--virtual-time-budget={wait * 1000:.0f}"] if wait else []
        command += ["--blink-settings=preferredColorScheme=0"] if dark else []
        command += [f"--screenshot={HERE / name}.png", url]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    print(f"{name}.png")


def _section(page: Path, heading: str) -> str:
    """A report from one of its headings on: headless Chromium shows nothing of a page it has scrolled."""
    text = page.read_text(encoding="utf-8")
    start, cut = text.index("<body>"), text.index(f'<h2 id="{heading}">')
    part = page.with_name(f"{heading}.html")
    part.write_text(text[:start] + "<body>" + text[cut:], encoding="utf-8")
    return part.as_uri()


def rehearsal() -> None:
    """The report of a rehearsal: verdict, plan against measurement, latencies; also by night."""
    out = RUNS / "rehearsal"
    _freehold("rehearse", "small", "--duration", "60", "--out", str(out))
    page = out / "report.html"
    shoot(page.as_uri(), "report", 1180)
    shoot(page.as_uri(), "report-dark", 1180, dark=True)
    shoot(_section(page, "inside-the-engines"), "report-engines", 760)


def step() -> None:
    """A step to saturation: throughput against concurrency with its knee, the stages' table."""
    out = RUNS / "step"
    with _small() as key:
        where = ("--base-url", GATEWAY, "--api-key", f"@{key}", "--out", str(out))
        levels = ("--shape", "step", "--concurrency", "80", "--duration", "280")
        _freehold("load", "small", *levels, *where)
    shoot(_section(out / "report.html", "throughput"), "report-step", 1080)


def locust() -> None:
    """Locust's own page while eight users are at work."""
    with _small() as key:
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py"]
        command += ["--host", GATEWAY, "--web-host", "127.0.0.1", "--out", str(RUNS / "locust")]
        env = {**os.environ, "FREEHOLD_API_KEY": key.read_text().strip()}
        process = subprocess.Popen(command, cwd=ROOT, env=env)
        try:
            _answers(LOCUST)
            swarm = {"user_count": 8, "spawn_rate": 4}
            httpx.post(f"{LOCUST}/swarm", data=swarm, trust_env=False).raise_for_status()
            time.sleep(45)
            shoot(LOCUST, "locust", 560, wait=5)
        finally:
            process.terminate()
            process.wait(timeout=60)


def stack() -> None:
    """The laptop's stack under its load test, each process with what it holds and did; and the report."""
    out = RUNS / "stack"
    with _local():
        load = ("--concurrency", "6", "--duration", "75", "--prefix-reuse", "0.6")
        _freehold("load", "local", *load, "--out", str(out))
        status = [str(FREEHOLD), "status", "local", "--json"]
        text = subprocess.run(status, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        processes = json.loads(text)["processes"]
        metrics = {each["name"]: _counted(each) for each in processes if each["role"] == "engine"}
        engines = [psutil.Process(each["pid"]) for each in processes if each["name"] in metrics]
        simulated = any("freehold.simulator" in " ".join(engine.cmdline()) for engine in engines)
    report = json.loads((out / "report.json").read_text())
    drawing = draw(Running(processes, metrics, report, simulated))
    (HERE / "stack.svg").write_text(drawing, encoding="utf-8")
    print("stack.svg")
    shoot((out / "report.html").as_uri(), "report-local", 900)


def _counted(engine: dict[str, Any]) -> dict[str, float]:
    """An engine's metrics, each summed over its labels."""
    text = httpx.get(f"{engine['url']}/metrics", timeout=10, trust_env=False).text
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(vllm:\w+)(?:\{[^}]*\})? ([\d.e+]+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


PICTURES: dict[str, Callable[[], None]] = {
    "rehearsal": rehearsal,
    "step": step,
    "locust": locust,
    "stack": stack,
}


@contextmanager
def _local() -> Iterator[None]:
    """The laptop's stack: the one that runs, or else one with simulated engines for the time being."""
    status = [str(FREEHOLD), "status", "local"]
    runs = subprocess.run(status, cwd=ROOT, check=False, capture_output=True).returncode == 0
    if not runs:
        _freehold("up", "local", "--engine", "simulated")
    try:
        yield
    finally:
        if not runs:
            _freehold("down", "local")


@contextmanager
def _small() -> Iterator[Path]:
    """The preset `small` with simulated engines; gives the file of its key."""
    _freehold("up", "small", "--engine", "simulated")
    try:
        yield ROOT / ".freehold" / "small" / "api-key"
    finally:
        _freehold("down", "small")


def _freehold(*arguments: str) -> None:
    """Exit codes 1 and 3 are verdicts: the picture shows them."""
    print("$ freehold", *arguments, flush=True)
    done = subprocess.run([str(FREEHOLD), *arguments], cwd=ROOT, check=False)
    if done.returncode not in (0, 1, 3):
        sys.exit(done.returncode)


def _answers(url: str) -> None:
    for _ in range(240):  # the generator calibrates itself and counts its texts first
        with suppress(httpx.HTTPError):
            httpx.get(url, trust_env=False)
            return
        time.sleep(0.5)
    sys.exit(f"{url} did not answer within two minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PICTURES, help="this run's pictures alone")
    options = parser.parse_args()
    for name, take in PICTURES.items():
        if options.only in (None, name):
            take()


if __name__ == "__main__":
    main()
