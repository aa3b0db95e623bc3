"""From the models that a stack file names to what the catalog knows of them."""

from __future__ import annotations

from collections.abc import Mapping

from freehold.catalog.models import Checkpoint, ModelSpec, find_model, load_models
from freehold.config.engine import DraftModelSpeculation
from freehold.config.errors import nearest
from freehold.config.stack import ModelPool, Stack

from .sizing import Wanted

# Formats that lose next to nothing against the published weights: taken without being asked for.
# Four bits are taken only where a model is published so.
_NEARLY_LOSSLESS = ("bf16", "fp8", "int8")


def wanted_pool(
    stack: Stack, place: int, models: Mapping[str, ModelSpec]
) -> tuple[Wanted | None, list[str]]:
    """A pool with its model and the weights that may be used, or every reason against it."""
    pool = stack.pools[place]
    path = f"pools[{place}] ({pool.name})"
    model = models.get(pool.model) or find_model(pool.model)
    if model is None:
        known = [name for name, other in load_models().items() if other.role == pool.role]
        return None, [
            f'{path}.model: the catalog has no "{pool.model}"{nearest(pool.model, known)}; to {pool.role} it '
            f"has {', '.join(known)}; for any other: freehold plan --model-config PATH"
        ]
    problems = [
        f"{path}.{problem}"
        for problem in (
            _role(pool, model),
            _context(pool, model),
            _licence(stack, model),
        )
        if problem
    ]
    checkpoints, why = _checkpoints(pool, model)
    if why:
        problems.append(f"{path}.{why}")
    if problems:
        return None, problems
    # From here on every pool says how it is bought.
    pool = pool.model_copy(update={"capacity": pool.capacity or stack.capacity})
    return Wanted(pool, model, checkpoints, _draft(pool)), []


def _role(pool: ModelPool, model: ModelSpec) -> str | None:
    if pool.role == model.role:
        return None
    fitting = [name for name, other in load_models().items() if other.role == pool.role]
    return f"role: {model.name} is made to {model.role}, not to {pool.role}: {', '.join(fitting)}"


def _context(pool: ModelPool, model: ModelSpec) -> str | None:
    if pool.context is None or pool.context <= model.max_context:
        return None
    if pool.engine.hf_overrides:  # RoPE scaling and the like: the user has changed the model
        return None
    longer = [
        name
        for name, other in load_models().items()
        if other.role == pool.role and other.max_context >= pool.context
    ]
    return (
        f"context: {model.name} takes {model.max_context:,} tokens, {pool.context:,} asked for: "
        f"{model.max_context} or less, or {', '.join(longer) or 'engine.hf_overrides'}"
    )


def _licence(stack: Stack, model: ModelSpec) -> str | None:
    allowed = stack.allowed_licences
    if allowed is None or model.licence in allowed:
        return None
    fitting = [
        name
        for name, other in load_models().items()
        if other.role == model.role and other.licence in allowed
    ]
    return (
        f"model: {model.name} is under {model.licence}, allowed_licences are "
        f"{', '.join(allowed) or 'none'}: {', '.join(fitting) or 'add it there'}"
    )


def _checkpoints(pool: ModelPool, model: ModelSpec) -> tuple[tuple[Checkpoint, ...], str | None]:
    """The weights that may be used: the repository named, the format asked for, or what is near."""
    named = [c for c in model.checkpoints if c.repo.lower() == pool.model.lower()]
    if named and named[0].repo != model.repo:
        if pool.quantization and pool.quantization != named[0].quantization:
            return (), (
                f"quantization: {named[0].repo} is {named[0].quantization}, not "
                f"{pool.quantization}: name {model.repo}, or leave one of the two out"
            )
        return tuple(named[:1]), None
    if pool.quantization:
        asked = model.checkpoint(pool.quantization)
        if asked is None:
            formats = dict.fromkeys(c.quantization for c in model.checkpoints)
            return (), (
                f"quantization: no {pool.quantization} weights of {model.name} are published, "
                f"only {', '.join(formats)}"
            )
        return (asked,), None
    usable = [model.checkpoint(model.native)]
    usable += [model.checkpoint(name) for name in _NEARLY_LOSSLESS if name != model.native]
    return tuple(c for c in usable if c), None


def _draft(pool: ModelPool) -> ModelSpec | None:
    speculation = pool.engine.speculation
    if isinstance(speculation, DraftModelSpeculation):
        return find_model(speculation.model)
    return None
