"""A secret on the command line: itself, `@FILE` or `env:NAME`, so that it need not stand in argv."""

from __future__ import annotations

import os
from pathlib import Path

from freehold.config import FreeholdError


def secret_from(value: str, option: str) -> str:
    """The secret that `value` is or points to; FreeholdError when there is none."""
    if value.startswith("@"):
        try:
            secret = Path(value[1:]).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FreeholdError(f"{option} {value}: the file cannot be read: {error}") from None
    elif value.startswith("env:"):
        secret = os.environ.get(value[4:], "").strip()
    else:
        secret = value.strip()
    if not secret:
        what = value if value.startswith(("@", "env:")) else "the key given"
        raise FreeholdError(f"{option}: {what} is empty; give KEY, @FILE or env:NAME")
    if not secret.isascii() or any(c.isspace() for c in secret):
        raise FreeholdError(f"{option}: a key is one word of plain characters (ASCII, no spaces)")
    return secret
