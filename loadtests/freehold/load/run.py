"""A whole run: locust in a process of its own, the engines watched beside it, then the report.

    python -m freehold.load.run TEST.json --promise PROMISE.json --locustfile loadtests/tiers/small.py

is the master of a distributed run (job.py): it waits for its workers, and prints report.json as one
line, because a pod's log is what outlives it.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from freehold.config import FreeholdError

from .analysis import Analysis, Context, analyse
from .record import PATTERN, read_recording
from .report import write_report
from .server_side import ENGINES, Series, Watch, Worker, keep
from .test import API_KEY, TEST_FILE, LoadTest
from .verdict import Promise

TEST, LOG = "test.json", "locust.log"
MASTER_PORT = 5557  # locust's own
# Beyond the longest silence that a request may keep, so that locust never cuts one short.
_DRAIN = 60.0


def run_test(
    test: LoadTest,
    locustfile: Path,
    api_key: str | None,
    workers: Sequence[Worker],
    *,
    remote_port: int | None = None,
) -> tuple[list[Series], str | None]:
    """Run the test with headless locust and return what the engines said meanwhile.

    `remote_port`: the test's generator processes are other machines', and come to this one by
    themselves, to that port.

    Also why it ended early, if it did; requests so far are recorded. FreeholdError when the generator
    refused to begin.
    """
    file = _prepare(test)
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless"]
    command += ["--stop-timeout", str(round(test.timeout + _DRAIN)), "--exit-code-on-error", "0"]
    command += ["--only-summary", "--loglevel", "WARNING"]
    if remote_port is not None:
        command += ["--master", "--expect-workers", str(test.processes)]
        command += ["--master-bind-port", str(remote_port)]
    elif test.processes > 1:
        # A port of its own: at locust's usual one the workers of two runs would find one master.
        port = str(_free_port())
        command += ["--processes", str(test.processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    env = {**os.environ, TEST_FILE: str(file)}
    env.pop(API_KEY, None)
    if api_key:
        env[API_KEY] = api_key
    watch = Watch(workers).start()
    try:
        with (test.out / LOG).open("w") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
            interrupted = _wait(process)
    finally:
        series = watch.stop()
    if interrupted:
        return series, interrupted
    if process.returncode:
        return series, _failure(process.returncode, test.out / LOG)
    return series, None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finish(out: Path, context: Context, series: Sequence[Series]) -> Analysis:
    """Merge the records, judge, and write the three files."""
    keep(out, series)
    recording = read_recording(out)
    analysis = analyse(recording, context)
    write_report(out, analysis, recording.requests, series)
    return analysis


def _prepare(test: LoadTest) -> Path:
    """The folder and the test's file; records of an earlier run in it would be mixed in."""
    try:
        test.out.mkdir(parents=True, exist_ok=True)
        for old in (*test.out.glob(PATTERN), test.out / ENGINES):
            old.unlink(missing_ok=True)
        file = test.out / TEST
        file.write_text(test.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        raise FreeholdError(f"--out {test.out}: {error.strerror} ({error.filename})") from None
    return file


def _wait(process: subprocess.Popen[bytes]) -> str | None:
    """Until locust has ended; Ctrl-C reaches it as well, and it lets requests in flight end."""
    try:
        process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(timeout=_DRAIN)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        return "interrupted"
    return None


def _failure(code: int, log: Path) -> str:
    """What locust's end means: our own refusal is the user's, anything else marks the run."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    refused = [line for line in lines if line.startswith("freehold: ")]
    if code == 2 and refused:
        raise FreeholdError(refused[0].removeprefix("freehold: "))
    last = lines[-1] if lines else "it said nothing"
    return f"the generator ended with code {code}: {last} ({log})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("test", type=Path)
    parser.add_argument("--promise", type=Path, required=True)
    parser.add_argument("--locustfile", type=Path, required=True)
    parser.add_argument("--port", type=int, default=MASTER_PORT, help="where workers come to")
    options = parser.parse_args()
    try:
        test = LoadTest.model_validate_json(options.test.read_bytes())
        promise = Promise.from_json(orjson.loads(options.promise.read_bytes()))
        key = os.environ.get(API_KEY)
        series, interrupted = run_test(test, options.locustfile, key, (), remote_port=options.port)
        analysis = finish(test.out, Context(test, promise, series, interrupted=interrupted), series)
    except (FreeholdError, OSError, ValueError) as error:
        print(f"freehold: {error}", file=sys.stderr)
        return 2
    print(orjson.dumps(analysis.report, default=float).decode(), flush=True)
    return analysis.exit_code


if __name__ == "__main__":
    sys.exit(main())
