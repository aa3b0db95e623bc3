"""Where the checkout is: commands work from any folder inside it."""

from __future__ import annotations

from pathlib import Path

from freehold.config import FreeholdError


def checkout_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that holds stack files."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if any(folder.glob("Pulumi.*.yaml")):
            return folder
    raise FreeholdError(f"{here} is not inside a Freehold checkout: it has no Pulumi.<stack>.yaml")
