"""The layout that everything else relies on."""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("platform", "workloads", "observability", "loadtests")


def test_no_package_shadows_the_standard_library_s_platform() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert Path(platform.__file__).is_relative_to(sysconfig.get_path("stdlib"))


def test_freehold_is_one_namespace_over_all_source_roots() -> None:
    for source in SOURCES:
        assert not (ROOT / source / "freehold" / "__init__.py").exists()


def test_every_package_is_typed() -> None:
    packages = [p for s in SOURCES for p in (ROOT / s / "freehold").glob("*/__init__.py")]
    assert packages
    assert [p.parent.name for p in packages if not (p.parent / "py.typed").exists()] == []


def test_the_laptop_runtime_and_the_plan_import_neither_pulumi_nor_an_engine() -> None:
    script = (
        "import sys, freehold.local.compose, freehold.planning.plan, freehold.gateway.envoy\n"
        "heavy = {'pulumi', 'torch', 'vllm', 'lmcache', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
