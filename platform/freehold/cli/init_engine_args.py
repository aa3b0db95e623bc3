"""vLLM's own arguments in chart values (`extraArgs`): to typed options where there are such."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from freehold.catalog.release import load_release
from freehold.config.engine import EngineOptions
from freehold.config.errors import nearest
from freehold.engine.arguments import TYPED
from freehold.engine.vllm_flags import flags

from .init_values import Note, Values

Argument = tuple[str, list[str]]

# Arguments that something else than an engine option decides -> what became of them.
_ELSEWHERE = {
    "--model": "dropped: modelURL says it",
    "--revision": "dropped: modelRevision says it",
    "--host": "dropped: Freehold decides where an engine listens",
    "--port": "dropped: Freehold decides where an engine listens",
    "--api-key": "dropped: the gateway checks the keys; a secret has no place in a process's arguments",
    "--hf-token": "dropped: `pulumi config set --secret freehold:hubToken`",
    "--enable-auto-tool-choice": "kept: engine.tool_call_parser sets it",
    "--enable-lora": "kept: engine.lora sets it",
    "--max-loras": "dropped: as many as engine.lora lists",
    "--lora-modules": "dropped: list the adapters in engine.lora (name, path)",
    "--kv-transfer-config": "dropped: `cache:` sets it",
    "--kv-offloading-size": "corrected: say engine.kv_offload_gib, or `cache:` for workers that share",
    "--kv-offloading-backend": "dropped: engine.kv_offload_gib sets it",
    "--disable-access-log-for-endpoints": "dropped: Freehold sets it",
    "--enable-request-id-headers": "dropped: Freehold sets it",
    "--enable-prompt-tokens-details": "dropped: Freehold sets it",
}
# Parts of the pool that are not under `engine`.
_OF_THE_POOL = {
    "--tensor-parallel-size": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel",
    "--max-model-len": "context",
    "--runner": "runner",
    "--convert": "convert",
    "--task": "task",
    "--served-model-name": "aliases",
}
_SHORT = {
    "-q": "--quantization",
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
}


def arguments(words: list[Any]) -> Iterator[Argument]:
    """`["--a", "1", "--b_c=2"]` -> `("--a", ["1"]), ("--b-c", ["2"])`."""
    said: list[str] = []
    for word in words:  # charts hold both `--a 1` in one string and in two
        text = str(word)
        said += text.split(" ", 1) if text.startswith("--") and "=" not in text else [text]
    current: Argument | None = None
    for text in said:
        if text.startswith("-") and not _is_number(text):
            if current:
                yield current
            name, equals, value = text.partition("=")
            name = _SHORT.get(name, name.replace("_", "-"))
            current = (name, [value] if equals else [])
        elif current:
            current[1].append(text)
        else:
            yield ("", [text])
    if current:
        yield current


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class ExtraArgs:
    """One model's `extraArgs`: what they say about the engine, about the pool, and of the rest."""

    def __init__(self, values: Values, path: str) -> None:
        self._values = values
        self.engine: dict[str, Any] = {}
        self.pool: dict[str, Any] = {}
        self.passed: list[str] = []
        words = values.take(path)
        for flag, given in arguments(words if isinstance(words, list) else []):
            what, _, text = self._one(flag, given).partition(": ")
            values.notes.append(Note(f"{path} {flag}".strip(), what, text))  # type: ignore[arg-type]

    def _one(self, flag: str, given: list[str]) -> str:
        """Take one argument; `what: text` of its note."""
        if flag in _ELSEWHERE:
            return _ELSEWHERE[flag]
        if flag in _OF_THE_POOL:
            key = _OF_THE_POOL[flag]
            self.pool[key] = given if key == "aliases" else _number(given)
            return f"kept: {key}"
        if flag not in flags():
            version = load_release().vllm
            return f"dropped: no argument of vLLM {version}{nearest(flag, flags())}"
        positive = flag.replace("--no-", "--", 1)
        if positive not in TYPED:
            self.passed += [flag, *given]
            return "kept: engine.extra_args"
        option = TYPED[positive]
        value = _value(option, flag == positive, given)
        try:
            checked = EngineOptions.model_validate({option: value})
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            return f"dropped: engine.{option} does not take {' '.join(given)}: {why}"
        self.engine[option] = checked.model_dump(exclude_unset=True)[option]
        return f"kept: engine.{option}"


def _number(given: list[str]) -> Any:
    text = " ".join(given)
    return int(text) if text.isdigit() else text


def _value(option: str, on: bool, given: list[str]) -> Any:
    text = " ".join(given)
    if not given:
        return on
    if option == "kv_cache_gib":
        return int(text) / 2**30 if text.isdigit() else text
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
