"""A control plane of one's own: etcd, API server, controllers, scheduler, on loopback."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from .binaries import ensure

_START_SECONDS = 120
# The fake kubelet keeps no leases, so nobody may take nodes for dead.
_CONTROLLERS = "*,-node-lifecycle-controller"


@dataclass(frozen=True)
class ControlPlane:
    """How to speak to it, as an administrator."""

    url: str
    token: str
    certificates: str
    """File with the certificate that the API server shows."""

    def client(self) -> httpx.Client:
        trusted = ssl.create_default_context(cafile=self.certificates)
        return httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.token}"},
            verify=trusted,
            timeout=60,
        )


@contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """Started in order, stopped in reverse; logs lie in `folder`."""
    binaries = ensure()
    names: list[str] = ["etcd", "peer", "api", "manager", "scheduler"]
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> None:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            stack.enter_context(_process([str(binaries / name), *arguments], log))

        start("etcd", *_etcd(folder, ports))
        start("kube-apiserver", *_api_server(folder, ports, key))
        certificate = folder / "certificates" / "apiserver.crt"
        _wait(certificate.exists, "the API server's certificate", folder)
        plane = ControlPlane(f"https://127.0.0.1:{ports['api']}", token, str(certificate))
        with plane.client() as client:
            _wait(lambda: _ready(client), "the API server", folder)
        kubeconfig = _kubeconfig(folder, plane)
        serving = ("--bind-address=127.0.0.1", f"--kubeconfig={kubeconfig}", "--leader-elect=false")
        start(
            "kube-controller-manager",
            *serving,
            f"--secure-port={ports['manager']}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={certificate}",
            f"--controllers={_CONTROLLERS}",
        )
        start("kube-scheduler", *serving, f"--secure-port={ports['scheduler']}")
        yield plane


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


def _api_server(folder: Path, ports: dict[str, int], key: Path) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{ports['etcd']}",
        "--bind-address=127.0.0.1",
        # Nobody reaches it as the Service `kubernetes`, which takes no loopback address.
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={ports['api']}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
    ]


def _kubeconfig(folder: Path, plane: ControlPlane) -> Path:
    path = folder / "kubeconfig"
    cluster = {"server": plane.url, "certificate-authority": plane.certificates}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "admin", "user": {"token": plane.token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            }
        )
    )
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
    raise AssertionError(f"{what} did not come in {_START_SECONDS} s: see the logs in {folder}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]
