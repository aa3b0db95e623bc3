"""How long a step takes, and a request's way to it: by the plan's latency model, or by a straight line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from .scheduler import Step
from .settings import Line, Timing

if TYPE_CHECKING:
    from freehold.planning.speed import Deployment


# Prompts are told apart by so many tokens: what they spend outside of steps grows with thousands.
_ROUNDED = 32
# Contexts are told apart by so many tokens a sequence: a thousandth of a step.
_COARSE = 16


@dataclass(frozen=True)
class Outside:
    """What a request spends outside of the engine's steps before its first token, seconds: HTTP,
    tokenising, and the part of its prefill that no other sequence sees."""

    always: float = 0.0
    in_company: float = 0.0
    """More of it on average, because others are in flight: sometimes none, sometimes twice as much."""

    def seconds(self, chance: float) -> float:
        """`chance` is between 0 and 1."""
        return self.always + 2 * chance * self.in_company


@dataclass(frozen=True)
class Pace:
    """What takes time in a replica."""

    step: Callable[[Step], float]
    outside: Callable[[int, int], Outside] = lambda tokens, sequences: Outside()
    """Of a request with so many tokens to compute, and so many sequences in flight with it."""


def pace_of(timing: Timing) -> Pace:
    """Raises FreeholdError when the deployment names what the catalog has not."""
    if isinstance(timing, Line):
        return _of_line(timing)
    # Imported here: a replica without a plan starts without reading the catalog.
    from .deployment import from_json

    return of_deployment(from_json(timing))


def _of_line(line: Line) -> Pace:
    def step(step: Step) -> float:
        return (
            line.step_seconds
            + line.sequence_seconds * len(step.decodes)
            + line.token_seconds * step.prefill_tokens
        )

    return Pace(step)


def of_deployment(deployment: Deployment) -> Pace:
    """The plan's own latency model, step by step."""
    from freehold.planning.speed import Load, outside_steps_seconds, predict, step_seconds

    @lru_cache(maxsize=8192)
    def seconds(sequences: int, context: int, prefill: int, before: int) -> float:
        return step_seconds(
            deployment,
            decode_sequences=sequences,
            decode_context_tokens=context,
            prefill_tokens=prefill,
            prefill_context_tokens=before,
        )

    def step(step: Step) -> float:
        sequences = len(step.decodes)
        # A sequence grows by one token a step: the same sixteen steps take the same time.
        coarse = _COARSE * sequences or 1
        context = step.decode_context - step.decode_context % coarse + coarse // 2
        return seconds(sequences, context, step.prefill_tokens, round(step.prefill_context))

    unlimited = replace(deployment, kv_budget_tokens=None, max_num_seqs=None)

    @lru_cache(maxsize=8192)
    def outside(tokens: int, sequences: int) -> Outside:
        alone = outside_steps_seconds(deployment, input_tokens=tokens)
        if sequences <= 1:
            return Outside(alone)
        found = predict(unlimited, Load(tokens, 1.0, sequences))
        plain = step_seconds(
            deployment, decode_sequences=sequences, decode_context_tokens=sequences * tokens
        )
        mixed = step_seconds(
            deployment,
            decode_sequences=sequences,
            decode_context_tokens=sequences * tokens,
            prefill_tokens=tokens,
        )
        # In company a request meets a step under way, half over on average, then its own.
        total = found.median_ttft_ms / 1e3 - plain / 2 - mixed
        return Outside(alone, max(0.0, total - alone))

    def rounded(tokens: int, sequences: int) -> Outside:
        return outside(max(_ROUNDED, tokens - tokens % _ROUNDED), sequences)

    return Pace(step, rounded)
