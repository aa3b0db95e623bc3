"""From the models that a stack file names to folders on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from freehold.config import FreeholdError
from freehold.config.engine import DraftModelSpeculation, Eagle3Speculation
from freehold.config.errors import nearest
from freehold.engine.settings import EngineSettings
from freehold.planning.plan import PoolPlan

from . import tiny_models

# Only what an engine reads; never pickled weights.
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model"]
_HUB_FILES_IGNORED = ["vocab.json", "original/*", "onnx/*"]  # vocab.json repeats tokenizer.json
# A hub that does not begin to answer in this many seconds is not reached: a newcomer should not
# wait longer to be told so.
_HUB_TIMEOUT = 4.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class LocalModel:
    """A pool's engine settings with every model in a folder here, and what a person should know."""

    settings: EngineSettings
    note: str

    @property
    def path(self) -> Path:
        return Path(self.settings.model)


def resolve(pool: PoolPlan, root: Path, report: Report) -> LocalModel:
    """Find, make or download everything that a pool's engine loads; FreeholdError when it cannot.

    `root` keeps the folders that Freehold makes; `report` hears of a download before it starts.
    """
    settings = pool.settings
    model, note = _resolve_one(
        _Wanted(settings.model, f"pools.{pool.name}.model", settings.revision, pool.fallback),
        root,
        report,
    )
    options = settings.options
    parts = {}
    if options.lora:
        parts["lora"] = [
            adapter.model_copy(update={"path": _part(adapter.path, pool, "lora", root, report)})
            for adapter in options.lora
        ]
    if isinstance(options.speculation, DraftModelSpeculation | Eagle3Speculation):
        draft = _part(options.speculation.model, pool, "speculation.model", root, report)
        parts["speculation"] = options.speculation.model_copy(update={"model": draft})
    options = options.model_copy(update=parts)
    return LocalModel(replace(settings, model=str(model), revision=None, options=options), note)


@dataclass(frozen=True)
class _Wanted:
    """A model as the stack file names it; `key` is where."""

    name: str
    key: str
    revision: str | None = None
    fallback: str | None = None
    is_adapter: bool = False


def _part(name: str, pool: PoolPlan, key: str, root: Path, report: Report) -> str:
    """The folder of something loaded beside the model: an adapter, a draft model."""
    key = f"pools.{pool.name}.engine.{key}"
    return str(_resolve_one(_Wanted(name, key, is_adapter="lora" in key), root, report)[0])


def _resolve_one(wanted: _Wanted, root: Path, report: Report) -> tuple[Path, str]:
    """The folder of one model and a note for a person."""
    name = wanted.name
    if name in tiny_models.NAMES:
        return tiny_models.ensure(name, root), _NOTES[name]
    if name.startswith((".", "/", "~")):
        folder = Path(name).expanduser().resolve()
        check_folder(folder, wanted.key, is_adapter=wanted.is_adapter)
        return folder, f"the folder {folder}"
    if "/" not in name:
        raise FreeholdError(
            f'{wanted.key}: "{name}" is no built-in model'
            f"{nearest(name, tiny_models.NAMES)}, hub id (org/name) or folder (./path); "
            f"built in are: {', '.join(tiny_models.NAMES)}"
        )
    return _from_hub(wanted, root, report)


_NOTES = {
    "tiny-chat": "made here with random weights: its answers are gibberish",
    "tiny-draft": "made here with random weights: its answers are gibberish",
    "tiny-lora": "an adapter of tiny-chat made here with random weights",
    "tiny-reranker": "made here with random weights: its order means nothing",
    "minilm": "all-MiniLM-L6-v2, real weights from a Python package",
}


def _from_hub(wanted: _Wanted, root: Path, report: Report) -> tuple[Path, str]:
    name = wanted.name
    if cached := _download(wanted, offline=True):
        return cached, f"{name}, from this machine's hub cache"
    reason = _unreachable(name)
    if reason is None:
        report(f"downloading {name} from {constants.ENDPOINT}")
        if folder := _download(wanted, offline=False):
            return folder, f"{name}, downloaded"
        reason = "the download broke off"
    if wanted.fallback is None:
        raise FreeholdError(
            f"{wanted.key}: {name} is not on this machine and cannot be fetched: {reason}. "
            f"Name a folder (./path), set HF_ENDPOINT to a mirror, or give the pool a "
            f"`fallback:` ({', '.join(tiny_models.NAMES)})"
        )
    if wanted.fallback not in tiny_models.NAMES:
        raise FreeholdError(
            f'{wanted.key.replace(".model", ".fallback")}: "{wanted.fallback}" is no built-in '
            f"model{nearest(wanted.fallback, tiny_models.NAMES)}: {', '.join(tiny_models.NAMES)}"
        )
    note = f"{wanted.fallback} instead of {name} ({reason}): {_NOTES[wanted.fallback]}"
    return tiny_models.ensure(wanted.fallback, root), note


def _unreachable(name: str) -> str | None:
    """Why the hub cannot serve this model, or None when it can."""
    url = f"{constants.ENDPOINT}/{name}/resolve/main/config.json"
    try:
        answer = httpx.head(url, timeout=_HUB_TIMEOUT, follow_redirects=True)
    except httpx.HTTPError as error:
        return f"no answer from {constants.ENDPOINT} ({type(error).__name__})"
    if answer.status_code in (401, 403):
        return f"{constants.ENDPOINT} wants a token for it (set HF_TOKEN) or refuses"
    if answer.status_code == 404:
        return f"{constants.ENDPOINT} has no such model"
    if answer.is_error:
        return f"{constants.ENDPOINT} answered {answer.status_code}"
    return None


def _download(wanted: _Wanted, *, offline: bool) -> Path | None:
    """The snapshot's folder when all of it is here, else None."""
    try:
        folder = Path(
            snapshot_download(
                wanted.name,
                revision=wanted.revision,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_HUB_FILES_IGNORED,
                local_files_only=offline,
            )
        )
        # A broken-off download leaves a folder too.
        check_folder(folder, wanted.key, is_adapter=wanted.is_adapter)
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError, FreeholdError):
        return None
    return folder


def check_folder(folder: Path, who: str, *, is_adapter: bool = False) -> None:
    """Refuse a model folder that no engine could load, saying which file is at fault."""
    if not folder.is_dir():
        raise FreeholdError(f"{who}: there is no model folder {folder}")
    name, field = (
        ("adapter_config.json", "peft_type") if is_adapter else ("config.json", "architectures")
    )
    config = folder / name
    try:
        known = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FreeholdError(f"{who}: {folder} holds no {name}, so no engine can load it") from None
    except (ValueError, OSError) as error:
        raise FreeholdError(f"{who}: {config} cannot be read: {error}") from None
    if not isinstance(known, dict) or not known.get(field):
        raise FreeholdError(f'{who}: {config} has no "{field}", so no engine can load it')
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise FreeholdError(f"{who}: {folder} holds no *.safetensors weights (pickles are refused)")
    for file in weights:
        try:
            with safe_open(file, framework="numpy") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise FreeholdError(f"{who}: {file} is damaged: {error}") from None
