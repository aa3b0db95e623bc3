"""`/tokenize` and `/detokenize`: the same tokens that usage counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from . import errors, prompts, tokens
from .http import Exchange
from .prompts import PromptError
from .replica import Replica

Body = Mapping[str, Any]


def tokenize(replica: Replica, exchange: Exchange, body: Body) -> None:
    if replica.served(body.get("model")) is None:
        return errors.unknown_model(exchange, body["model"], ", ".join(replica.settings.names))
    if "messages" in body:
        generation = body.get("add_generation_prompt", True)
        text = prompts.of_chat(body["messages"], body.get("tools"), generation=generation)
    elif isinstance(body.get("prompt"), str):
        text = body["prompt"].encode()
    else:
        return errors.missing(exchange, "prompt")
    numbers = tokens.encode(text)
    strings = None
    if body.get("return_token_strs"):
        parts = (text[at : at + tokens.WIDTH] for at in range(0, len(text), tokens.WIDTH))
        strings = [part.decode(errors="replace") for part in parts]
    answer = {
        "count": len(numbers),
        "max_model_len": replica.settings.limits.max_model_len,
        "tokens": numbers,
        "token_strs": strings,
    }
    exchange.respond(200, orjson.dumps(answer))
    return None


def detokenize(replica: Replica, exchange: Exchange, body: Body) -> None:
    if replica.served(body.get("model")) is None:
        return errors.unknown_model(exchange, body["model"], ", ".join(replica.settings.names))
    if not isinstance(body.get("tokens"), list):
        return errors.missing(exchange, "tokens")
    try:
        text = tokens.decode(body["tokens"])
    except (ValueError, OverflowError, TypeError) as error:
        raise PromptError(f"tokens: {error}", "tokens") from None
    exchange.respond(200, orjson.dumps({"prompt": text.decode(errors="replace")}))
    return None
