"""A closed loop on one replica: how many requests run, how many wait, what each token takes."""

from __future__ import annotations

from dataclasses import dataclass

from . import seconds
from .constants import Effects, Global
from .deployment import Deployment, Load
from .seconds import Number
from .work import DecodeWork, PrefillWork, decode_work, prefill_work

# KV cache of a running request, averaged over its life: its prompt and this share of its answer.
# Half would do if requests were spread evenly; they bunch, and the engine preempts at the peaks.
_ANSWER_HELD = 0.6


@dataclass(frozen=True)
class Loop:
    """What `latency` needs of one deployment under one load (or arrays of many)."""

    at: DecodeWork
    one: DecodeWork
    prompt: PrefillWork
    output_tokens: Number
    sequences: Number
    """Requests that a rank runs at a time, at least 1."""
    demand: Number
    """Requests in the loop over requests admitted."""
    prefill_share: Number
    """Share of the prefills that a decoding sequence meets: 1 without pipeline stages."""
    tokens_per_step: Number
    draft_seconds: Number
    limited: Number
    """1 for measured rows with a hidden server limit (`rows.py`), else 0."""


@dataclass(frozen=True)
class Latency:
    """Seconds."""

    ttft: Number
    tpot: Number
    decode_step: Number
    """A step without prefill."""
    mean_step: Number


def admitted(d: Deployment, load: Load) -> float:
    """Requests of this size that one rank runs at a time; infinite where nothing limits them."""
    most = float("inf")
    if d.kv_budget_tokens is not None:
        held = load.input_tokens + _ANSWER_HELD * load.output_tokens
        most = max(1.0, d.kv_budget_tokens / d.data_parallel / held)
    if d.max_num_seqs is not None:
        most = min(most, float(d.max_num_seqs))
    return most


def closed_loop(d: Deployment, load: Load, *, limited: bool = False) -> Loop:
    each = load.concurrency / d.data_parallel
    most = admitted(d, load)
    running = max(1.0, min(each, most))
    stages = d.pipeline_parallel
    in_stage = max(1.0, running / stages)
    context = load.input_tokens + load.output_tokens / 2
    cached = load.input_tokens * load.prefix_hit_rate
    return Loop(
        at=decode_work(d, in_stage, in_stage * context),
        one=decode_work(d, 1.0, context),
        prompt=prefill_work(d, max(1.0, load.input_tokens - cached), cached),
        output_tokens=max(1.0, load.output_tokens),
        sequences=running,
        demand=each / most,
        # A stage's own prefills in full, the other stages' for the one stage they hold meanwhile.
        prefill_share=(2 * stages - 1) / stages**2,
        tokens_per_step=d.speculation.tokens_per_step,
        draft_seconds=d.speculation.draft_seconds,
        limited=float(limited),
    )


def latency(c: Global, e: Effects, loop: Loop) -> Latency:
    """Median TTFT and TPOT: each request's tokens, and its share of every other's prefill.

    While a request decodes, each of the others is replaced once by a new one, whose prefill
    lengthens some step: TPOT = decode step + running * added by a prefill / output tokens.
    """
    step = seconds.decode_step(c, e, loop.at, loop.one) + loop.draft_seconds
    alone = seconds.prefill(c, e, loop.prompt)
    added = seconds.added_by_prefill(c, e, alone, loop.one)
    prefills_a_token = loop.sequences * loop.prefill_share / loop.output_tokens
    tpot = step / loop.tokens_per_step + prefills_a_token * added
    tpot = tpot * c.limited_decode**loop.limited
    ttft = seconds.first_token(c, e, step, alone, loop.sequences)
    lifetime = ttft + loop.output_tokens * tpot
    ttft = ttft + seconds.waiting_rounds(c, loop.demand) * lifetime
    return Latency(ttft=ttft, tpot=tpot, decode_step=step, mean_step=tpot * loop.tokens_per_step)
