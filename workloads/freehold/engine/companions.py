"""What is loaded beside the model: draft models and LoRA adapters, and what their configs say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from freehold.config.engine import DraftModelSpeculation, Eagle3Speculation

from .settings import EngineSettings

Companions = Mapping[str, Mapping[str, Any]]
"""The name that the settings give to a draft model or adapter -> its parsed config file."""


def read_companions(settings: EngineSettings) -> dict[str, dict[str, Any]]:
    """The configs of those draft models and adapters that are folders on this machine."""
    found = {}
    for name, file in _files(settings):
        path = Path(name) / file
        if path.is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _files(settings: EngineSettings) -> Iterator[tuple[str, str]]:
    speculation = settings.options.speculation
    if isinstance(speculation, DraftModelSpeculation | Eagle3Speculation):
        yield speculation.model, "config.json"
    for adapter in settings.options.lora:
        yield adapter.path, "adapter_config.json"
