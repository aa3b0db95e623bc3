"""Unpack Debian or Ubuntu packages into a folder: no root, no service started, nothing installed.

`apt-get download` with private package lists and cache, then `dpkg -x`. Works as any user.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from freehold.config.errors import FreeholdError

ATTEMPTS = 3
"""Of each step that uses the network; apt itself tries each file three times and resumes halves."""
STEP_SECONDS = 300
"""A mirror that gives nothing for this long is as good as absent."""


def available() -> bool:
    """Whether this machine has what it takes."""
    return all(shutil.which(program) for program in ("apt-get", "apt-cache", "dpkg", "dpkg-deb"))


class Unpacker:
    """Packages into `<folder>/root`, shared libraries that the machine lacks included."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.debs = folder / "debs"
        self.private_lists = folder / "apt" / "lists"
        self._lists: Path | None = None  # the machine's own
        self._config = folder / "apt" / "apt.conf"

    def unpack(self, packages: Sequence[str]) -> None:
        """Download and unpack; FreeholdError with apt's own words when it cannot be done."""
        self._prepare()
        problem = ""
        for attempt in range(ATTEMPTS):
            # The machine's own lists may be missing (containers) or name files that are gone.
            if attempt or not self._known(packages):
                problem = self._update()
            done = self._apt("apt-get", "download", *packages, cwd=self.debs)
            if done.returncode == 0:
                break
            problem = done.stderr or problem
        else:
            raise FreeholdError(
                f"Could not download {', '.join(packages)} with apt-get:\n"
                f"{_last_lines(problem)}\n"
                f"Check the network, or run: sudo apt-get install {' '.join(packages)}"
            )
        for package in packages:
            for deb in self.debs.glob(f"{package}_*.deb"):
                subprocess.run(
                    ["dpkg", "-x", str(deb), str(self.root)], check=True, capture_output=True
                )
                deb.unlink()

    def complete(self, program: Path, packages: Sequence[str]) -> None:
        """Add the shared libraries that `program` needs and neither machine nor folder has."""
        if not missing_libraries(program, self.library_path()):
            return
        wanted = [name for name in self._dependencies(packages) if name.startswith("lib")]
        absent = [name for name in wanted if not _installed(name)]
        if absent:
            self.unpack(absent)
        if lost := missing_libraries(program, self.library_path()):
            raise FreeholdError(
                f"{program.name} needs {', '.join(lost)}, which no package here has. "
                f"Run: sudo apt-get install {' '.join(packages)}"
            )

    def library_path(self) -> str:
        """For LD_LIBRARY_PATH: every folder under `root` that holds shared libraries."""
        return ":".join(sorted({str(file.parent) for file in self.root.rglob("lib*.so.*")}))

    def _prepare(self) -> None:
        for path in (
            self.root,
            self.debs,
            self.private_lists / "partial",
            self.folder / "apt/cache",
        ):
            path.mkdir(parents=True, exist_ok=True)
        # The machine's hooks after an update clean up its own caches, which a user may not.
        self._config.write_text(
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
        )

    def _known(self, packages: Sequence[str]) -> bool:
        return self._apt("apt-cache", "show", "--no-all-versions", *packages).returncode == 0

    def _update(self) -> str:
        """Fetch private lists. One unreachable third-party source must not spoil the rest, so what
        counts is whether the packages are known afterwards; returns apt's complaints."""
        self._lists = self.private_lists
        return self._apt("apt-get", "update").stderr

    def _dependencies(self, packages: Sequence[str]) -> list[str]:
        kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        text = self._apt(
            "apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in kinds), *packages
        ).stdout
        names = re.findall(r"^([a-z0-9][a-z0-9.+-]+)$", text, flags=re.MULTILINE)
        return sorted(set(names) - set(packages))

    def _apt(
        self, program: str, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        options = {
            "Dir::Cache": self.folder / "apt/cache",
            "Acquire::Retries": 3,
            "Dir::Cache::pkgcache": "pkgcache.bin",  # container images switch these two off, which
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",  # costs seconds at each call
            "APT::Sandbox::User": "root",  # else apt drops to a user that may not write here
            "Acquire::Languages": "none",
        }
        if self._lists:
            options["Dir::State::lists"] = self._lists
        command = [program, "-q", "-c", str(self._config)]
        command += [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        try:
            return subprocess.run(
                [*command, *arguments],
                cwd=cwd,
                env=os.environ | {"LC_ALL": "C"},
                capture_output=True,
                text=True,
                timeout=STEP_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"{program}: no answer in time")


def missing_libraries(program: Path, library_path: str) -> list[str]:
    environment = os.environ | {"LD_LIBRARY_PATH": library_path, "LC_ALL": "C"}
    done = subprocess.run(
        ["ldd", str(program)], env=environment, capture_output=True, text=True, check=False
    )
    return re.findall(r"^\s*(\S+) => not found", done.stdout, flags=re.MULTILINE)


def _installed(package: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.startswith("installed")


def _last_lines(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-5:])
