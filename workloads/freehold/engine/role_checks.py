"""What a pool's role allows: a pooling engine makes no text, so nothing about text applies to it."""

from __future__ import annotations

from collections.abc import Iterator

from freehold.config.errors import nearest

from .model_facts import ModelFacts
from .settings import EngineSettings
from .vllm_facts import REASONING_PARSERS, TOOL_PARSERS

# Options that say how text is generated.
_GENERATION = ("speculation", "lora", "tool_call_parser", "reasoning_parser", "kv_offload_gib")


def check_role(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    if settings.role == "generate":
        yield from _generates(model)
        yield from _parsers(settings)
    else:
        yield from _pools(settings, model)


def _generates(model: ModelFacts) -> Iterator[str]:
    if model.is_encoder:
        yield (
            f'role "generate" does not go with {model.architectures[0]}, an encoder that writes no '
            "text: use role embed or rerank"
        )


def _pools(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    for key in _GENERATION:
        if getattr(settings.options, key):
            yield f'engine.{key} has no effect with role "{settings.role}": leave it out'
    if settings.kv_transfer is not None:
        yield (
            f'KV transfer does not go with role "{settings.role}", which reuses no KV cache: '
            "only generate pools take part"
        )
    if settings.role == "rerank":
        yield from _ranks(settings, model)


def _ranks(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    if model.labels not in (None, 1):
        yield (
            f'the model tells {model.labels} classes apart, and role "rerank" needs a model with '
            "one: vLLM serves no /v1/rerank otherwise"
        )
    causal = any(name.endswith("ForCausalLM") for name in model.architectures)
    if causal and "classifier_from_token" not in model.text:
        yield (
            f'{model.architectures[0]} has no head that ranks, so role "rerank" would give random '
            "scores: name a cross-encoder, or say by which tokens it judges with "
            'engine.hf_overrides {"classifier_from_token": ["no", "yes"], …}'
        )


def _parsers(settings: EngineSettings) -> Iterator[str]:
    options = settings.options
    for key, said, known, plugin in (
        ("tool_call_parser", options.tool_call_parser, TOOL_PARSERS, "--tool-parser-plugin"),
        ("reasoning_parser", options.reasoning_parser, REASONING_PARSERS, _REASONING_PLUGIN),
    ):
        if said and said not in known and plugin not in options.extra_args:
            yield (
                f'engine.{key} "{said}" is not known to the pinned vLLM{nearest(said, known)}: '
                f"{', '.join(sorted(known))} (one of your own comes with {plugin} in extra_args)"
            )


_REASONING_PLUGIN = "--reasoning-parser-plugin"
