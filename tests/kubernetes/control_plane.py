"""A control plane of one's own: etcd, API server, controllers, scheduler, on loopback."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx
from ports import free_ports

from .binaries import ensure
from .kubeconfig import client_of

_START_SECONDS = 120


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A kubeconfig of an administrator. Started in order, stopped in reverse; logs lie in `folder`."""
    binaries = ensure()
    names: list[str] = ["etcd", "peer", "api", "manager", "scheduler"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    _certificates(folder)
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            stack.enter_context(_process([str(binaries / name), *arguments], log))

        start("etcd", *_etcd(folder, ports))
        start("kube-apiserver", *_api_server(folder, ports))
        served = folder / "certificates" / "apiserver.crt"
        _wait(served.exists, "the API server's certificate", folder)
        kubeconfig = _kubeconfig(folder, f"https://127.0.0.1:{ports['api']}", served)
        with client_of(kubeconfig) as client:
            _wait(lambda: _ready(client), "the API server", folder)
        serving = ("--bind-address=127.0.0.1", f"--kubeconfig={kubeconfig}", "--leader-elect=false")
        start(
            "kube-controller-manager",
            *serving,
            f"--secure-port={ports['manager']}",
            f"--service-account-private-key-file={folder / 'accounts.key'}",
            f"--root-ca-file={served}",
        )
        start("kube-scheduler", *serving, f"--secure-port={ports['scheduler']}")
        yield kubeconfig


def _certificates(folder: Path) -> None:
    """A key that signs service accounts' tokens, and an administrator's certificate, its own issuer."""
    openssl("genrsa", "-out", folder / "accounts.key", "2048")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    subject = "/O=system:masters/CN=admin"
    openssl(*new, "-subj", subject, "-keyout", folder / "admin.key", "-out", folder / "admin.crt")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _etcd(folder: Path, ports: dict[str, int]) -> list[str]:
    client, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "peer"))
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]


def _api_server(folder: Path, ports: dict[str, int]) -> list[str]:
    key = folder / "accounts.key"
    return [
        f"--etcd-servers=http://127.0.0.1:{ports['etcd']}",
        "--bind-address=127.0.0.1",
        # Nobody reaches it as the Service `kubernetes`, which takes no loopback address.
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={ports['api']}",
        f"--cert-dir={folder / 'certificates'}",
        f"--client-ca-file={folder / 'admin.crt'}",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",  # as clusters have it: admission by level is what refuses
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
    ]


def _kubeconfig(folder: Path, url: str, served: Path) -> Path:
    path = folder / "kubeconfig"
    cluster = {"server": url, "certificate-authority": str(served)}
    user = {
        "client-certificate": str(folder / "admin.crt"),
        "client-key": str(folder / "admin.key"),
    }
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    }
    path.write_text(json.dumps(tree))
    return path


@contextmanager
def _process(argv: list[str], log: IO[bytes]) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _wait(condition: Callable[[], bool], what: str, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.2)
    told = [f"{log.name}: ...{log.read_text()[-600:]}" for log in sorted(folder.glob("*.log"))]
    raise AssertionError("\n".join([f"{what} did not come in {_START_SECONDS} s", *told]))
