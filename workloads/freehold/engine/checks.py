"""Combinations that cannot work, refused with the reason before anything starts.

Pure: everything is known from the settings and the config files of what they name. What vLLM would
refuse too is refused here first, in the stack file's own words; what it would let through, to fail
after minutes of loading or to serve wrongly, is refused here alone (docs/components/engine.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from .arguments import check_extra_args
from .command_line import command_line
from .companions import Companions
from .lora_checks import check_lora
from .model_checks import check_model
from .model_facts import ModelFacts, facts
from .role_checks import check_role
from .settings import EngineSettings
from .speculation_checks import check_speculation
from .transfer_checks import check_transfer

Device = Literal["cuda", "cpu"]


def refusals(
    settings: EngineSettings,
    model_config: Mapping[str, Any] | None,
    *,
    companions: Companions | None = None,
    device: Device = "cuda",
) -> list[str]:
    """Why these settings cannot serve this model: key, value, what is allowed; empty when they can.

    `model_config` is the model's config.json, `companions` those of draft models and adapters; what
    is not given is not checked. `device` is what the engine runs on.
    """
    model = facts(model_config or {}, settings.options.hf_overrides)
    return [*_all(settings, model, companions or {}, device)]


def _all(
    settings: EngineSettings, model: ModelFacts, companions: Companions, device: Device
) -> Iterator[str]:
    yield from check_role(settings, model)
    yield from check_model(settings, model, on_cpu=device == "cpu")
    yield from check_speculation(settings, model, companions)
    yield from check_lora(settings, companions)
    yield from check_transfer(settings, model, on_cpu=device == "cpu")
    bare = settings.options.model_copy(update={"extra_args": []})
    yield from check_extra_args(settings, command_line(replace(settings, options=bare)))
