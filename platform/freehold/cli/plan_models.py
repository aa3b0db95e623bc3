"""Models that the catalog lacks, through their config.json: a file, a folder, or the hub."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freehold.catalog.models import ModelSpec, find_model, from_config_json
from freehold.config import FreeholdError, Stack

# A hub that does not begin to answer in this many seconds is not reached.
_HUB_TIMEOUT = 4.0
_HUB = "https://huggingface.co"


def models_for(stack: Stack, given: tuple[str, ...]) -> dict[str, ModelSpec]:
    """What the stack's unknown models are, by what the stack file calls them.

    `given` are the values of --model-config, each `PATH`, `hub`, or `MODEL=PATH` where several
    models are unknown. A model that is a folder here needs none.
    """
    roles = {
        pool.model: pool.role
        for pool in stack.pools
        if stack.target.kind in ("eks", "existing") and find_model(pool.model) is None
    }
    unknown = list(roles)
    sources = _sources(given, unknown)
    found: dict[str, ModelSpec] = {}
    for name in unknown:
        source = sources.get(name)
        if source is None and (Path(name).expanduser() / "config.json").is_file():
            source = name
        if source:
            config = _from_hub(name) if source == "hub" else _from_path(source)
            # A config.json does not say what its model is for: the pool does.
            found[name] = dataclasses.replace(from_config_json(config, name), role=roles[name])
    return found


def _sources(given: tuple[str, ...], unknown: list[str]) -> dict[str, str]:
    sources: dict[str, str] = {}
    for value in given:
        name, equals, path = value.partition("=")
        if equals:
            if name not in unknown:
                listed = ", ".join(unknown) or "none"
                raise FreeholdError(
                    f"--model-config {value}: no pool has a model {name} that the catalog lacks; "
                    f"such are: {listed}"
                )
            sources[name] = path
        elif value == "hub":
            sources |= dict.fromkeys(unknown, "hub")
        elif len(unknown) == 1:
            sources[unknown[0]] = value
        elif not unknown:
            raise FreeholdError(
                f"--model-config {value}: the catalog knows every model of this stack; put the "
                "model's name into a pool's `model` first"
            )
        else:
            raise FreeholdError(
                f"--model-config {value}: say which model it is, as {unknown[0]}={value}; the "
                f"catalog lacks {', '.join(unknown)}"
            )
    return sources


def _from_path(path: str) -> Mapping[str, Any]:
    file = Path(path).expanduser()
    file = file / "config.json" if file.is_dir() else file
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FreeholdError(f"--model-config {path}: cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise FreeholdError(f"--model-config {path}: holds no JSON object")
    return config


def _from_hub(name: str) -> Mapping[str, Any]:
    import httpx

    url = f"{os.environ.get('HF_ENDPOINT', _HUB)}/{name}/resolve/main/config.json"
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=_HUB_TIMEOUT, follow_redirects=True)
        answer.raise_for_status()
        config = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise FreeholdError(
            f"--model-config hub: {url} gave no config.json ({error}); download it and name the file"
        ) from None
    if not isinstance(config, dict):
        raise FreeholdError(f"--model-config hub: {url} is no JSON object")
    return config
