"""From work to seconds: the one set of formulas that prediction, simulator and calibration share.

Every function takes plain numbers or numpy arrays of them (calibration runs all measured rows at
once), so there are no branches on values here, only arithmetic.
"""

from __future__ import annotations

from typing import Any

from .constants import Effects, Global
from .elementwise import exp, log, minimum
from .work import DecodeWork, PrefillWork

Number = Any
"""A float, or a numpy array with one entry a measured row."""


def decode_step(c: Global, e: Effects, at: DecodeWork, one: DecodeWork) -> Number:
    """Seconds of a decode step; `one` is the same step with a single sequence.

    The model's own speed scales the step, its `growth` scales what more sequences add: the result
    never falls when the batch or its context grows.
    """
    alone = _plain_step(c, one)
    grown = _plain_step(c, at) - alone
    return _decode_scale(e, at) * (alone + exp(e.growth) * grown)


def _decode_scale(e: Effects, at: DecodeWork) -> Number:
    ranks = at.tensor_parallel
    return exp(e.decode + e.system_decode + e.decode_tp * log(ranks / 4))


def _plain_step(c: Global, w: DecodeWork) -> Number:
    reads = _weight_reads(c, w)
    compute = w.compute / c.decode_compute
    # Reading and computing overlap: close to the longer of the two, a little more where they are equal.
    weights = (reads**3 + compute**3) ** (1 / 3)
    overhead = c.step_s + c.layer_s * w.layers + c.moe_layer_s * w.moe_layers
    per_sequence = c.sequence_s * w.sequences + w.kv_read / c.kv_bandwidth
    return overhead + weights + per_sequence + c.all_reduce * w.communication


def _weight_reads(c: Global, w: DecodeWork) -> Number:
    visited = 1 - (1 - w.expert_share) ** (w.expert_tokens**c.expert_spread)
    return w.dense_read / c.dense_bandwidth + w.expert_read * visited / c.expert_bandwidth


def prefill(c: Global, e: Effects, w: PrefillWork) -> Number:
    """Seconds to compute prompt tokens, alone."""
    narrow = w.expert_width / (w.expert_width + c.expert_width)
    products = w.dense_compute / c.prefill_dense + w.expert_compute / c.prefill_expert / narrow
    # The work is already divided by the ranks: this corrects for how well they share it.
    products = products * w.tensor_parallel ** (1 - c.prefill_tp)
    own = exp(e.prefill + e.system_prefill + e.prefill_tp * log(w.tensor_parallel / 4))
    return own * (products + w.attention / c.prefill_attention + c.all_reduce * w.communication)


def added_by_prefill(c: Global, e: Effects, seconds: Number, one: DecodeWork) -> Number:
    """Seconds that a prefill adds to a step of decoding sequences.

    Less than it takes alone: the step reads the weights anyway, and part of what a prompt costs
    (its way through scheduler and output) is not on the path of the others.
    """
    seen = c.interference * exp(e.interference)
    hidden = c.hidden_reads * _weight_reads(c, one)
    return seen * seconds * seconds / (seconds + hidden)


def first_token(
    c: Global, e: Effects, step: Number, prefill_s: Number, sequences: Number
) -> Number:
    """Seconds from arrival to first token with `sequences` in flight, all of them admitted."""
    own = exp(e.first_token) * (c.request_s + c.first_steps * step)
    exponent = c.queue_exponent * exp(e.queue_exponent)
    return own + prefill_s * (1 + c.queue * (sequences**exponent - 1))


def waiting_rounds(c: Global, ratio: Number) -> Number:
    """Request lifetimes that a request waits when `ratio` times as many come as are admitted.

    Nothing well below 1, `ratio - 1` well above; near 1 some must wait, because sequences grow in
    step with each other.
    """
    capped = minimum(ratio, 4.0)  # above 4 the two are the same; the power would overflow
    smooth = (capped**_EDGE + 1) ** (1 / _EDGE) - 1
    return c.wait * (smooth + ratio - capped)


_EDGE = 24.0
