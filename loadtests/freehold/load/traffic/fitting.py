"""A tier's pattern at a demand's lengths, so that what is sent is what the plan was made for."""

from __future__ import annotations

from freehold.config.demand import Demand

from .spec import Traffic


def fitted(traffic: Traffic, demand: Demand) -> Traffic:
    """Mean prompt, answer and repeated share as the demand states them; nobody thinks: the plan's
    concurrency is of requests in flight."""
    lengths = {
        "input_tokens": demand.input_tokens,
        "output_tokens": demand.output_tokens,
        "think_seconds": 0.0,
    }
    if traffic.kind == "chat":
        return traffic.model_copy(update=lengths | _conversation(demand))
    if traffic.kind == "agents":
        return traffic.model_copy(update=lengths | _agent(demand))
    # Retrieval repeats its instructions; a fixed prompt its prefix.
    shared = int(demand.prefix_hit_rate * demand.input_tokens)
    key = {"system_tokens": shared} if traffic.kind == "retrieval" else {}
    return traffic.model_copy(update=lengths | key | {"prefix_reuse": demand.prefix_hit_rate})


def _conversation(demand: Demand) -> dict[str, object]:
    """K turns whose prompts are d, 2d, ... Kd repeat (K-1)/(K+1) of all they send, and average
    d(K+1)/2: both are wanted, which gives K and d."""
    repeated, mean = demand.prefix_hit_rate, demand.input_tokens
    turns = max(1, round((1 + repeated) / (1 - repeated)))
    each = 2 * mean / (turns + 1)
    return {
        "system_tokens": 0,  # what all conversations share would repeat more than was stated
        "input_tokens": max(64, int(each)),
        # A turn adds the last answer as well as the next question.
        "turn_tokens": max(32, int(each) - demand.output_tokens),
        # Half a turn more: what the chat template adds must not cost the last turn.
        "context_limit": int(each * (turns + 0.5)) + demand.output_tokens,
    }


def _agent(demand: Demand) -> dict[str, object]:
    """Three turns around the mean length, of which each reads (1 - repeated) anew; the repository
    and the instructions are shared by all. When less is repeated there is no room for a
    shared repository, and it is a conversation."""
    if demand.prefix_hit_rate < 0.6:
        return _conversation(demand)
    new = max(64, int((1 - demand.prefix_hit_rate) * demand.input_tokens))
    start = demand.input_tokens - new
    return {
        "system_tokens": min(8_000, start // 4),
        "input_tokens": start,
        "turn_tokens": max(32, new - demand.output_tokens),
        "context_limit": start + 5 * new // 2 + demand.output_tokens,
    }
