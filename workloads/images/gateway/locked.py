"""Prints the entries of a hashed requirements file that a list of packages names.

locked.py REQUIREMENTS PACKAGES
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def chosen(requirements: str, packages: list[str]) -> str:
    """Raises SystemExit for a package that is not locked."""
    entries = {
        match[1]: entry.rstrip()
        for entry in re.split(r"\n(?=\S)", requirements.strip())
        if (match := re.match(r"([a-z0-9.-]+)==", entry))
    }
    if missing := [name for name in packages if name not in entries]:
        raise SystemExit(f"not in the lock: {', '.join(missing)}")
    return "\n".join(entries[name] for name in packages)


if __name__ == "__main__":
    lock, names = (Path(argument).read_text(encoding="utf-8") for argument in sys.argv[1:3])
    print(chosen(lock, names.split()))
