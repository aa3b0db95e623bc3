"""Speculative decoding: whether what guesses fits what checks."""

from __future__ import annotations

from collections.abc import Iterator

from freehold.config.engine import (
    DraftModelSpeculation,
    Eagle3Speculation,
    MtpSpeculation,
    NgramSpeculation,
)

from .companions import Companions
from .model_checks import divisors
from .model_facts import ModelFacts
from .settings import EngineSettings
from .vllm_facts import EAGLE3_OVER_PIPELINE

_KEY = "engine.speculation"


def check_speculation(
    settings: EngineSettings, model: ModelFacts, companions: Companions
) -> Iterator[str]:
    speculation = settings.options.speculation
    match speculation:
        case None:
            return
        case NgramSpeculation():
            yield from _ngram(speculation)
        case MtpSpeculation():
            yield from _mtp(speculation, model)
        case DraftModelSpeculation() | Eagle3Speculation():
            draft = ModelFacts(companions.get(speculation.model, {}))
            yield from _draft_ranks(speculation, draft, settings.options.tensor_parallel)
            if isinstance(speculation, Eagle3Speculation):
                yield from _eagle3(speculation, draft, model)
                yield from _eagle3_stages(settings, model)
            else:
                yield from _draft_model(speculation, draft, model)
    yield from _lora_batch(settings, speculation.num_speculative_tokens)


def _ngram(speculation: NgramSpeculation) -> Iterator[str]:
    low, high = speculation.prompt_lookup_min, speculation.prompt_lookup_max
    if low > high:
        yield (
            f"{_KEY}.prompt_lookup_min {low} is more than prompt_lookup_max {high}: at most {high}"
        )


def _mtp(speculation: MtpSpeculation, model: ModelFacts) -> Iterator[str]:
    asked, layers = speculation.num_speculative_tokens, model.mtp_layers
    if model.config and not layers:
        yield (
            f'{_KEY}.method "mtp" needs multi-token-prediction layers, and the model has none that '
            "vLLM can use: ngram works with any model, eagle3 and draft_model with a second one"
        )
    elif layers and asked > layers and asked % layers:
        yield (
            f"{_KEY}.num_speculative_tokens {asked} is no multiple of the model's {layers} "
            f"multi-token-prediction layers: {asked - asked % layers}"
        )


def _draft_ranks(
    speculation: DraftModelSpeculation | Eagle3Speculation, draft: ModelFacts, ranks: int
) -> Iterator[str]:
    asked = speculation.draft_tensor_parallel_size
    key = f"{_KEY}.draft_tensor_parallel_size"
    if asked not in (None, 1, ranks):
        yield f"{key} {asked} must be 1 or tensor_parallel, {ranks}"
    elif draft.heads and draft.heads % (asked or ranks):
        allowed = [n for n in divisors(draft.heads) if n in (1, ranks)]
        yield (
            f"{key} {asked or ranks} does not divide the {draft.heads} attention heads of "
            f"{speculation.model}: {', '.join(str(n) for n in allowed)}"
        )


def _draft_model(
    speculation: DraftModelSpeculation, draft: ModelFacts, model: ModelFacts
) -> Iterator[str]:
    name = speculation.model
    if draft.is_eagle3:
        yield f'{_KEY}.method "draft_model" does not go with {name}, an EAGLE-3 head: eagle3'
    elif draft.is_encoder:
        yield f"{_KEY}.model {name} is an encoder, which writes no text: name a small generator"
    elif draft.vocabulary and model.vocabulary and draft.vocabulary != model.vocabulary:
        yield (
            f"{_KEY}.model {name} has a vocabulary of {draft.vocabulary} and the model one of "
            f"{model.vocabulary}: name a draft model with the same tokenizer, or method ngram"
        )


def _eagle3(speculation: Eagle3Speculation, draft: ModelFacts, model: ModelFacts) -> Iterator[str]:
    name = speculation.model
    if draft.architectures and not draft.is_eagle3:
        yield (
            f'{_KEY}.method "eagle3" needs an EAGLE-3 head, and {name} is a '
            f"{draft.architectures[0]}: draft_model, or a head trained for the model"
        )
        return
    reads = draft.text.get("target_hidden_size") or draft.hidden
    if reads and model.hidden and reads != model.hidden:
        yield (
            f"{_KEY}.model {name} reads hidden states of {reads} values and the model's have "
            f"{model.hidden}: it was trained for another model"
        )


def _eagle3_stages(settings: EngineSettings, model: ModelFacts) -> Iterator[str]:
    stages = settings.options.pipeline_parallel
    if stages > 1 and model.architectures and not EAGLE3_OVER_PIPELINE & {*model.architectures}:
        yield (
            f"engine.pipeline_parallel {stages} does not go with eagle3 on "
            f"{model.architectures[0]}, whose stages do not hand on the hidden states it reads: "
            "pipeline_parallel 1, or another method"
        )


def _lora_batch(settings: EngineSettings, drafted: int) -> Iterator[str]:
    """With adapters, every sequence's drafted tokens must fit a step."""
    options = settings.options
    tokens, sequences = options.max_num_batched_tokens, options.max_num_seqs
    if not (options.lora and tokens and sequences):
        return
    needed = sequences * (drafted + 1)
    if tokens < needed:
        yield (
            f"engine.max_num_batched_tokens {tokens} is too small for lora with {drafted} "
            f"speculative tokens and max_num_seqs {sequences}: {needed} or more"
        )
