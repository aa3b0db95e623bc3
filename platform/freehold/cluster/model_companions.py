"""What engines load beside their model: draft models, EAGLE-3 heads and LoRA adapters of the hub."""

from __future__ import annotations

from freehold.config.engine import DraftModelSpeculation, Eagle3Speculation
from freehold.planning.plan import PoolPlan


def on_hub(name: str) -> bool:
    """Whether a stack file's name of a model is a repository: neither a folder nor in a bucket."""
    return not name.startswith((".", "/", "~", "s3://"))


def companions(pool: PoolPlan) -> list[str]:
    """Repositories that the pool's engines read besides their model's, as the stack file calls them."""
    options = pool.settings.options
    named = [adapter.path for adapter in options.lora]
    if isinstance(options.speculation, DraftModelSpeculation | Eagle3Speculation):
        named.append(options.speculation.model)
    return [name for name in named if on_hub(name)]
