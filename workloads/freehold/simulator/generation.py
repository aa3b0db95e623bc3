"""One generating request from its body to its last byte."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import xxhash

from . import errors, prompts, structured, tokens
from .blocks import root_of
from .formats import Call, Chat, Completion, Format, Messages, Responses
from .http import Exchange
from .prompts import PromptError
from .replica import Replica
from .request import Request
from .tokens import Answer

Body = Mapping[str, Any]

# An answer that may end when it likes has between so many tokens and four times that.
_SHORTEST_ANSWER = 64


class Reply:
    """A request's sink: writes its answer to the client, as a stream or whole."""

    __slots__ = ("_exchange", "_fault", "_format", "_headers", "_opened", "_stream", "_told")

    def __init__(self, exchange: Exchange, format: Format, stream: bool, headers: bytes) -> None:
        self._exchange = exchange
        self._format = format
        self._stream = stream
        self._headers = headers
        self._fault = exchange.fault
        self._opened = False
        self._told = 0

    def produced(self, request: Request, count: int) -> None:
        if not self._stream:
            return
        if not self._opened:
            self._open(request)
        if request.finish is None:
            answer = request.answer
            assert answer is not None
            piece = answer.piece(self._told, request.output)
            self._told = request.output
            self._exchange.send(self._format.delta(piece, answer.plain))
            if self._fault and request.output >= request.limit // 2:
                self._misbehave()

    def finished(self, request: Request) -> None:
        if self._stream:
            if not self._opened:
                self._open(request)
            # What the last step produced is told together with the reason to finish.
            answer = request.answer
            piece = answer.piece(self._told, request.output) if answer else ""
            self._exchange.send(self._format.closing(request, piece))
            self._exchange.end()
        elif self._fault == "break":
            self._exchange.break_off()
        elif self._fault == "garbage":
            self._exchange.respond(200, b'{"choices": [{"mess', more=self._headers)
        else:
            self._exchange.respond(
                200, orjson.dumps(self._format.whole(request)), more=self._headers
            )

    def _open(self, request: Request) -> None:
        self._opened = True
        self._exchange.stream(self._headers)
        if opening := self._format.opening(request):
            self._exchange.send(opening)

    def _misbehave(self) -> None:
        fault, self._fault = self._fault, None
        if fault == "break":
            self._exchange.break_off()
        elif fault == "garbage":
            self._exchange.send(
                b'data: {"choices": [{"delta": \x00\xff\n\nwhat is this\n\ndata: 12'
            )


# --- The four APIs ------------------------------------------------------------------------------------


def chat(replica: Replica, exchange: Exchange, body: Body) -> None:
    if "messages" not in body:
        return errors.missing(exchange, "messages")
    prompt = prompts.of_chat(body["messages"], body.get("tools"))
    maximum = body.get("max_completion_tokens", body.get("max_tokens"))
    fixed, call = _forced(replica, body)

    def format(id: str, model: str) -> Format:
        return Chat(id, model, body, call=call, **replica.format_options)

    _generate(replica, exchange, body, prompt, None, maximum, "chatcmpl-", format, fixed)
    return None


def completions(replica: Replica, exchange: Exchange, body: Body) -> None:
    if "prompt" not in body:
        return errors.missing(exchange, "prompt")
    given = prompts.prompts_of(body["prompt"], "prompt")
    if len(given) != 1:
        raise PromptError("The simulated engine takes one prompt a request.", "prompt")
    prompt, length = given[0]

    def format(id: str, model: str) -> Format:
        return Completion(id, model, body, **replica.format_options)

    # vLLM's default for this API alone.
    maximum = body.get("max_tokens", 16)
    fixed = _schema_answer(body)
    _generate(replica, exchange, body, prompt, length, maximum, "cmpl-", format, fixed)
    return None


def messages(replica: Replica, exchange: Exchange, body: Body) -> None:
    for name in ("messages", "max_tokens"):
        if name not in body:
            return errors.missing(exchange, name)
    history = body["messages"]
    if system := body.get("system"):
        history = [{"role": "system", "content": system}, *history]
    prompt = prompts.of_chat(history, body.get("tools"))

    def format(id: str, model: str) -> Format:
        return Messages(id, model, body, **replica.format_options)

    stops = {**body, "stop": body.get("stop_sequences")}
    _generate(replica, exchange, stops, prompt, None, body["max_tokens"], "chatcmpl-", format, None)
    return None


def responses(replica: Replica, exchange: Exchange, body: Body) -> None:
    if "input" not in body:
        return errors.missing(exchange, "input")
    history = body["input"]
    if isinstance(history, str):
        history = [{"role": "user", "content": history}]
    if instructions := body.get("instructions"):
        history = [{"role": "system", "content": instructions}, *history]
    prompt = prompts.of_chat(history, body.get("tools"))

    def format(id: str, model: str) -> Format:
        return Responses(id, model, body, **replica.format_options)

    maximum = body.get("max_output_tokens")
    _generate(replica, exchange, body, prompt, None, maximum, "resp_", format, None)
    return None


# --- What they share ----------------------------------------------------------------------------------


def _generate(
    replica: Replica,
    exchange: Exchange,
    body: Body,
    prompt: bytes,
    length: int | None,
    maximum: Any,
    id_prefix: str,
    format: Callable[[str, str], Format],
    fixed: Answer | None,
) -> None:
    served = replica.served(body.get("model"))
    if served is None:
        return errors.unknown_model(exchange, body["model"], ", ".join(replica.settings.names))
    model, adapter = served
    if body.get("n", 1) not in (1, None):
        raise PromptError("The simulated engine gives one choice: n must be 1.", "n")
    replica.engine.admit()
    salt = body.get("cache_salt") or ""
    if not isinstance(salt, str):
        raise PromptError("Parameter 'cache_salt' must be a non-empty string if provided.")
    id = id_prefix + (exchange.headers.get("x-request-id") or uuid.uuid4().hex)
    reply = Reply(
        exchange,
        format(id, model),
        bool(body.get("stream")),
        replica.answer_headers(exchange),
    )
    length = tokens.count(prompt) if length is None else length
    most = _most(maximum, replica.room_for(length))
    answer = fixed or _words(replica, body, prompt, most, free=maximum is None)
    if answer.tokens > most:
        answer = answer.cut(most)
    stop = answer.stop_at(_stops(body))
    limits = replica.settings.limits
    request = Request(
        prompt,
        answer,
        reply,
        block_size=limits.block_size,
        caching=limits.prefix_caching,
        root=root_of(salt, adapter),
        adapter=adapter,
        length=length,
        max_tokens=most,
    )
    request.stop_reason = stop
    if replica.is_handed(body):
        request.external = request.prompt
    exchange.gone = lambda: replica.engine.abort(request)
    replica.submit(request)
    return None


def _most(maximum: Any, room: int) -> int:
    if maximum is None:
        return room
    if isinstance(maximum, bool) or not isinstance(maximum, int):
        raise PromptError("max_tokens must be a whole number", "max_tokens")
    if maximum < 1:
        raise PromptError(f"max_tokens must be at least 1, got {maximum}.", "max_tokens")
    return min(maximum, room)


def _words(replica: Replica, body: Body, prompt: bytes, most: int, *, free: bool) -> Answer:
    """The same prompt gives the same words; other words for another seed."""
    given = body.get("seed")
    seed = xxhash.xxh3_64_intdigest(prompt[-4096:], replica.settings.seed + (given or 0))
    if free and not body.get("ignore_eos"):
        most = min(most, _SHORTEST_ANSWER + seed % (3 * _SHORTEST_ANSWER))
    return Answer.words(seed >> 8, most)


def _stops(body: Body) -> list[str]:
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or ())


def _forced(replica: Replica, body: Body) -> tuple[Answer | None, Call | None]:
    """The answer that a tool choice or a schema leaves no choice in."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools and choice in (None, "auto"):
        if choice == "auto" and not replica.settings.auto_tool_choice:
            raise PromptError(
                '"auto" tool choice requires --enable-auto-tool-choice and '
                "--tool-call-parser to be set"
            )
        return _schema_answer(body), None
    if not tools or choice == "none":
        return _schema_answer(body), None
    named = isinstance(choice, Mapping)
    wanted = choice.get("function", {}).get("name") if named else None
    functions = {tool["function"]["name"]: tool["function"] for tool in tools}
    name = wanted or next(iter(functions))
    if name not in functions:
        raise PromptError(
            f"tool_choice names {name!r}, which is not among the tools", "tool_choice"
        )
    arguments = _instance(functions[name].get("parameters") or {"type": "object"})
    return arguments, Call(name, f"chatcmpl-tool-{uuid.uuid4().hex[:16]}", named)


def _schema_answer(body: Body) -> Answer | None:
    wanted = body.get("response_format") or {}
    match wanted.get("type"):
        case "json_schema":
            return _instance(wanted.get("json_schema", {}).get("schema", {}))
        case "json_object":
            return _instance({"type": "object"})
    structured_outputs = body.get("structured_outputs") or {}
    if "json" in structured_outputs:
        schema = structured_outputs["json"]
        return _instance(orjson.loads(schema) if isinstance(schema, str) else schema)
    if choices := structured_outputs.get("choice"):
        return Answer.exactly(choices[0])
    return None


def _instance(schema: Any) -> Answer:
    try:
        return Answer.exactly(structured.as_text(schema))
    except (ValueError, AttributeError, TypeError) as error:
        raise PromptError(f"Invalid JSON schema: {error}", "response_format") from None
