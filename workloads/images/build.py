"""Builds Freehold's own images with the release's versions, and pushes them where asked to.

    .venv/bin/python workloads/images/build.py REGISTRY [--push] [--only engine|gateway|router] [--say]

REGISTRY is host and path, such as the `<account>.dkr.ecr.<region>.amazonaws.com/<stack>` that the
program exports; tags are those that the pods ask for. `--say` prints the commands instead of running
them. Needs docker (or a program of that name).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from freehold.catalog.release import Release, load_release
from freehold.serving.images import engine_tag, gateway_tag, router_tag

ROOT = Path(__file__).resolve().parents[2]


def commands(release: Release, registry: str, only: str | None, push: bool) -> Iterator[list[str]]:
    packages = release.python_packages
    images = {
        "engine": (
            engine_tag(release),
            {
                "VLLM_IMAGE": release.images["vllm"],
                "VLLM_VERSION": packages["vllm"],
                "LMCACHE_VERSION": packages["lmcache"],
                "VALKEY_GLIDE_VERSION": release.engine_image["valkey-glide-sync"],
            },
        ),
        "gateway": (
            gateway_tag(release),
            {"PYTHON_IMAGE": release.images["python"], "GO_IMAGE": release.images["go"]},
        ),
        "router": (router_tag(release), {"PYTHON_IMAGE": release.images["python"]}),
    }
    for name, (tag, arguments) in images.items():
        if only in (None, name):
            reference = f"{registry.rstrip('/')}/{name}:{tag}"
            given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
            file = f"workloads/images/{name}/Dockerfile"
            yield ["docker", "build", "--pull", *given, "--file", file, "--tag", reference, "."]
            if push:
                yield ["docker", "push", reference]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Build Freehold's own images.")
    parser.add_argument("registry")
    parser.add_argument("--push", action="store_true")
    parser.add_argument("--only", choices=("engine", "gateway", "router"))
    parser.add_argument("--say", action="store_true")
    given = parser.parse_args(arguments)
    for command in commands(load_release(), given.registry, given.only, given.push):
        print(shlex.join(command), flush=True)
        if not given.say:
            subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
