"""Reading the catalog's data files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

# The C reader when PyYAML has it: ten times as fast, same result.
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def read_data(name: str) -> Any:
    """The plain tree of a data file of this package."""
    text = files("freehold.catalog").joinpath(name).read_text(encoding="utf-8")
    return yaml.load(text, _YamlLoader)
