"""The folder of a stack's state on this machine: `.freehold/<stack>/`."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from freehold.config import FreeholdError
from freehold.config.stack import GatewayKey

from .statedir import read_json, write_json


@dataclass(frozen=True)
class StackHome:
    """Paths of one stack. Nothing is made until it is written."""

    root: Path
    """The checkout."""
    stack: str

    @classmethod
    def of(cls, root: Path, stack: str) -> StackHome:
        return cls(root, stack)

    @property
    def folder(self) -> Path:
        return self.root / ".freehold" / self.stack

    @property
    def tools(self) -> Path:
        return self.root / ".freehold" / "tools"

    @property
    def models(self) -> Path:
        return self.root / ".freehold" / "models"

    @property
    def key_file(self) -> Path:
        """The first tenant's key: the one that examples use."""
        return self.folder / "api-key"

    def key_file_of(self, tenant: str, first: bool) -> Path:
        return self.key_file if first else self.folder / f"api-key-{tenant}"

    def first_key(self) -> str:
        """The key of a stack that has been up; FreeholdError when it never was."""
        try:
            return self.key_file.read_text(encoding="utf-8").strip()
        except OSError:
            raise FreeholdError(
                f"stack {self.stack} has no key yet ({self.key_file}): `freehold up` makes it"
            ) from None

    def prepare(self) -> None:
        """Make the folder, readable by its owner alone."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.folder / ".probe"
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as error:
            raise FreeholdError(
                f"cannot write the state folder {self.folder}: {error.strerror}. "
                "Free some space, or give yourself the right to write there"
            ) from None

    def port_rows(self, pools: Sequence[str]) -> dict[str, int]:
        """A number for each pool, the lowest that was free when it came, kept while it is in the stack."""
        file = self.folder / "ports.json"
        known: dict[str, int] = read_json(file)
        rows = {name: known[name] for name in pools if name in known}
        for name in pools:
            free = (row for row in itertools.count() if row not in rows.values())
            rows.setdefault(name, next(free))
        if rows != known:
            write_json(file, rows)
        return rows

    def secret_of(self, key: GatewayKey, first: bool) -> str:
        """A tenant's secret: from the environment where the stack file says so, else its key file,
        which is made the first time and kept, so that a restart does not lock clients out."""
        file = self.key_file_of(key.tenant, first)
        if not key.secret_env:
            if file.exists():
                return file.read_text(encoding="utf-8").strip()
            secret = "sk-" + secrets.token_urlsafe(32)
        else:
            secret = os.environ.get(key.secret_env, "")
            if not secret:
                raise FreeholdError(
                    f"gateway key of tenant {key.tenant}: the environment variable "
                    f"{key.secret_env} is empty; export it, or drop `secret_env` to have one made"
                )
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(secret + "\n")
        return secret
