"""What ran before this checkout: the last tag, or where there is none this code with an earlier release."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from program.engine import Engine
from program.programs import ROOT

# One minor version of Kubernetes back, and an earlier patch or minor of everything else that a stack pins.
# Nothing is fetched by these numbers: all that matters is that they are lower.
_RELEASE = {
    "kubernetes": "1.34",
    "python_packages": {"vllm": "0.31.0", "lmcache": "0.5.5"},
    "images": {
        "vllm": "docker.io/vllm/vllm-openai:v0.31.0",
        "envoy": "docker.io/envoyproxy/envoy:v1.39.0",
        "redis": "docker.io/library/redis:7.2.10",
        "device-plugin": "nvcr.io/nvidia/k8s-device-plugin:v0.19.2",
    },
    "eks_addons": {
        "vpc-cni": "v1.22.3-eksbuild.1",
        "kube-proxy": "v1.34.3-eksbuild.1",
        "coredns": "v1.12.4-eksbuild.1",
        "eks-pod-identity-agent": "v1.3.9-eksbuild.1",
        "aws-ebs-csi-driver": "v1.62.0-eksbuild.1",
        "metrics-server": "v0.8.1-eksbuild.1",
        "eks-node-monitoring-agent": "v1.6.3-eksbuild.1",
    },
    "charts": {
        "aws-load-balancer-controller": {"version": "3.4.0"},
        "keda": {"version": "2.19.0"},
        "cluster-autoscaler": {"version": "9.58.0"},
        "kube-prometheus-stack": {"version": "88.5.2"},
    },
}
_PROGRAM = f"""
import runpy

from freehold.catalog.reading import read_data
from freehold.config.inheritance import merge

release = read_data("release.yaml")  # kept: who reads it later gets the same one
release.update(merge(release, {_RELEASE!r}))
runpy.run_path("current.py", run_name="__main__")
"""


def start_earlier(folder: Path, stack: str) -> Engine:
    """An engine whose program is the earlier one; `engine.use(ROOT)` is the upgrade."""
    tag = _git("describe", "--tags", "--abbrev=0").decode().strip()
    if tag:
        source = folder / tag
        with tarfile.open(fileobj=io.BytesIO(_git("archive", tag))) as archive:
            archive.extractall(source, filter="data")
        return Engine.of(folder, stack, source)
    engine = Engine.of(folder, stack)
    engine.program.rename(engine.program.with_name("current.py"))
    engine.program.write_text(_PROGRAM)
    return engine


def _git(*arguments: str) -> bytes:
    """Empty where it fails: no repository, or no tag."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False).stdout
