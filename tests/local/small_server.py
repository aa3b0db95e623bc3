"""A stand-in for a service: an HTTP server whose good and bad manners are switched on by name.

`small_server.py PORT [key=value ...]`:
  needs=PORT        exit 1 unless that port accepts connections at the start
  meet=FOLDER       listen only once two servers have left their mark in the folder (they run at once)
  slow=SECONDS      listen only after that
  lives=FILE,N      exit 3 at the start when FILE says that it has started N times before
  die               exit 5 with a traceback-like message
  deaf              ignore SIGTERM
  shm=NAME          map /dev/shm/NAME
  semaphore         make a named semaphore, as multiprocessing does, with the process that removes it
  children          leave two children: one that wipes its environment in /proc, one in its own session
  socket            make a unix socket in TMPDIR
  echo=FILE         answer with the content of FILE, read at the start and on SIGHUP
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHILD = "import time; time.sleep(600)"


def main() -> None:
    port = int(sys.argv[1])
    options: dict[str, str] = {}
    for word in sys.argv[2:]:
        key, _, options[key] = word.partition("=")
    if "needs" in options:
        socket.create_connection(("127.0.0.1", int(options["needs"])), timeout=2).close()
    if "lives" in options:
        file, most = options["lives"].split(",")
        count = int(Path(file).read_text() or 0) if Path(file).exists() else 0
        Path(file).write_text(str(count + 1))
        if count >= int(most):
            sys.exit(3)
    if "die" in options:
        print(
            f"loading\nValueError: the weights are corrupt, key {os.environ.get('KEY')}", flush=True
        )
        sys.exit(5)
    if "deaf" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "shm" in options:
        with Path("/dev/shm", options["shm"]).open("w+b") as file:
            file.truncate(4096)
            globals()["kept"] = mmap.mmap(file.fileno(), 4096)
    if "semaphore" in options:
        globals()["lock"] = multiprocessing.get_context("spawn").Lock()
    if "children" in options:
        subprocess.Popen(["env", "-i", sys.executable, "-c", CHILD])
        subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True)
    if "socket" in options:
        socket.socket(socket.AF_UNIX).bind(f"{tempfile.gettempdir()}/control.sock")
    if "meet" in options:
        Path(options["meet"], str(port)).touch()
        while len(list(Path(options["meet"]).iterdir())) < 2:
            time.sleep(0.02)
    time.sleep(float(options.get("slow", 0)))
    serve(port, options.get("echo"))


def serve(port: int, echo: str | None) -> None:
    content = Path(echo).read_bytes() if echo else b"ok"

    def read_again(*_: object) -> None:
        nonlocal content
        content = Path(echo).read_bytes() if echo else b"ok"

    signal.signal(signal.SIGHUP, read_again)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + content)


if __name__ == "__main__":
    main()
