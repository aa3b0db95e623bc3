"""How an answer looks in each API: its stream of events and its whole. Shapes and field order as vLLM
0.32 writes them (`entrypoints/openai`, `entrypoints/anthropic`)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .request import Request

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"
_SPLIT = "\0"
"""Stands in a template event for the text of a token: JSON writes it as `\\u0000`."""


@dataclass(frozen=True)
class Call:
    """The function that an answer calls; its text is the arguments."""

    name: str
    id: str
    named: bool
    """The request asked for this very function (then the reason to finish stays `stop`)."""


class Format(ABC):
    """One answer in one API. `before` and `after` enclose a token's text in an event of the stream."""

    before: bytes
    after: bytes

    def __init__(
        self,
        id: str,
        model: str,
        body: Mapping[str, Any],
        *,
        details: bool,
        force_usage: bool,
        engine_id: str | None = None,
    ) -> None:
        """`engine_id`: this engine hands its KV cache to others, under that name."""
        self.id = id
        self.model = model
        self.body = body
        self.created = int(time.time())
        self._details = details
        self._engine_id = engine_id
        options = body.get("stream_options") or {}
        self._include_usage = force_usage or bool(options.get("include_usage"))

    @abstractmethod
    def opening(self, request: Request) -> bytes:
        """Events before the first token's."""

    def delta(self, piece: str, plain: bool) -> bytes:
        """The event of some tokens' text; `plain` text needs no escaping."""
        text = piece.encode() if plain else orjson.dumps(piece)[1:-1]
        return self.before + text + self.after

    @abstractmethod
    def closing(self, request: Request, piece: str) -> bytes:
        """The last token's event and all that follow."""

    @abstractmethod
    def whole(self, request: Request) -> Json: ...

    def _handed_over(self) -> Json | None:
        """How another worker fetches the KV cache; the fields of vLLM's NIXL connector."""
        asked = self.body.get("kv_transfer_params") or {}
        if self._engine_id is None or not asked.get("do_remote_decode"):
            return None
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [[0]],
            "remote_engine_id": self._engine_id,
            "remote_request_id": self.id,
            "remote_host": "127.0.0.1",
            "remote_port": 5600,
            "tp_size": 1,
        }

    def _usage(self, request: Request) -> Json:
        prompt, output = request.prompt, request.output
        usage: Json = {"prompt_tokens": prompt, "total_tokens": prompt + output}
        usage["completion_tokens"] = output
        cached = {"cached_tokens": request.cached} if self._details and request.cached else None
        usage["prompt_tokens_details"] = cached
        return usage

    def _template(self, event: bytes) -> None:
        """Takes `before` and `after` from an event with `_SPLIT` where the text goes."""
        self.before, self.after = event.split(orjson.dumps(_SPLIT)[1:-1])


class Chat(Format):
    def __init__(self, *args: Any, call: Call | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._call = call
        self._template(_data(self._chunk(self._delta(_SPLIT))))

    def _chunk(self, delta: Json, finish: str | None = None, **more: Any) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **more}
        return self._head("chat.completion.chunk") | {"choices": [choice]}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _delta(self, text: str) -> Json:
        if self._call:
            return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        return {"content": text}

    def opening(self, request: Request) -> bytes:
        first = _data(self._chunk({"role": "assistant", "content": ""}))
        if not self._call:
            return first
        function = {"name": self._call.name, "arguments": ""}
        call = {"id": self._call.id, "type": "function", "index": 0, "function": function}
        return first + _data(self._chunk({"tool_calls": [call]}))

    def closing(self, request: Request, piece: str) -> bytes:
        reason = self._reason(request)
        events = _data(self._chunk(self._delta(piece), reason, stop_reason=request.stop_reason))
        if self._include_usage:
            head = self._head("chat.completion.chunk")
            events += _data(head | {"choices": [], "usage": self._usage(request)})
        return events + DONE

    def _reason(self, request: Request) -> str | None:
        if self._call and not self._call.named and request.finish == "stop":
            return "tool_calls"
        return request.finish

    def whole(self, request: Request) -> Json:
        text = request.answer.piece(0, request.output) if request.answer else ""
        message: Json = {"role": "assistant", "content": None if self._call else text}
        message |= dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
        if self._call:
            function = {"name": self._call.name, "arguments": text}
            message["tool_calls"] = [
                {"id": self._call.id, "type": "function", "function": function}
            ]
        choice = {
            "index": 0,
            "message": message | {"reasoning": None},
            "logprobs": None,
            "finish_reason": self._reason(request),
            "stop_reason": request.stop_reason,
            "token_ids": None,
        }
        return self._head("chat.completion") | {
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": self._usage(request),
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "kv_transfer_params": self._handed_over(),
        }


class Completion(Format):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._template(_data(self._chunk(_SPLIT, None, None)))

    def _chunk(self, text: str, finish: str | None, stop_reason: str | None) -> Json:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return self._head() | {"choices": [choice | {"stop_reason": stop_reason}], "usage": None}

    def _head(self) -> Json:
        head = {"id": self.id, "object": "text_completion"}
        return head | {"created": self.created, "model": self.model}

    def opening(self, request: Request) -> bytes:
        return b""

    def closing(self, request: Request, piece: str) -> bytes:
        events = _data(self._chunk(piece, request.finish, request.stop_reason))
        if self._include_usage:
            events += _data(self._head() | {"choices": [], "usage": self._usage(request)})
        return events + DONE

    def whole(self, request: Request) -> Json:
        text = request.answer.piece(0, request.output) if request.answer else ""
        chunk = self._chunk(text, request.finish, request.stop_reason)
        return chunk | {"usage": self._usage(request), "kv_transfer_params": self._handed_over()}


class Messages(Format):
    """Anthropic's: named events, usage at both ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        delta = {"type": "text_delta", "text": _SPLIT}
        self._template(_event({"type": "content_block_delta", "index": 0, "delta": delta}))

    def _message(self, request: Request, content: list[Json], stop: str | None) -> Json:
        usage = {"input_tokens": request.prompt, "output_tokens": request.output}
        head = {"id": self.id, "type": "message", "role": "assistant", "content": content}
        return head | {
            "model": self.model,
            "stop_reason": stop,
            "stop_sequence": request.stop_reason,
            "usage": usage,
        }

    def opening(self, request: Request) -> bytes:
        block = {"type": "text", "text": ""}
        return _event(
            {"type": "message_start", "message": self._message(request, [], None)}
        ) + _event({"type": "content_block_start", "index": 0, "content_block": block})

    def closing(self, request: Request, piece: str) -> bytes:
        usage = {"input_tokens": request.prompt, "output_tokens": request.output}
        delta = {"stop_reason": _anthropic(request), "stop_sequence": request.stop_reason}
        return (
            self.delta(piece, False)
            + _event({"type": "content_block_stop", "index": 0})
            + _event({"type": "message_delta", "delta": delta, "usage": usage})
            + _event({"type": "message_stop"})
        )

    def whole(self, request: Request) -> Json:
        text = request.answer.piece(0, request.output) if request.answer else ""
        return self._message(request, [{"type": "text", "text": text}], _anthropic(request))


def _anthropic(request: Request) -> str:
    if request.finish == "length":
        return "max_tokens"
    return "stop_sequence" if request.stop_reason else "end_turn"


class Responses(Format):
    """OpenAI's newer API: one message item of one text part, events numbered in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._number = 0
        self._item = f"msg_{self.id.removeprefix('resp_')}"

    def _next(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return _event(event)

    def _place(self) -> Json:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def delta(self, piece: str, plain: bool) -> bytes:
        return self._next("response.output_text.delta", **self._place(), delta=piece, logprobs=[])

    def opening(self, request: Request) -> bytes:
        response = self._response(request, [], "in_progress")
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = self._message([], "in_progress")
        return (
            self._next("response.created", response=response)
            + self._next("response.in_progress", response=response)
            + self._next("response.output_item.added", output_index=0, item=item)
            + self._next("response.content_part.added", **self._place(), part=part)
        )

    def closing(self, request: Request, piece: str) -> bytes:
        text = request.answer.piece(0, request.output) if request.answer else ""
        part, whole = self._part(text), self.whole(request)
        done = "response.completed" if whole["status"] == "completed" else "response.incomplete"
        return (
            self.delta(piece, False)
            + self._next("response.output_text.done", **self._place(), text=text, logprobs=[])
            + self._next("response.content_part.done", **self._place(), part=part)
            + self._next("response.output_item.done", output_index=0, item=whole["output"][0])
            + self._next(done, response=whole)
        )

    def whole(self, request: Request) -> Json:
        text = request.answer.piece(0, request.output) if request.answer else ""
        status = "completed" if request.finish == "stop" else "incomplete"
        response = self._response(request, [self._message([self._part(text)], status)], status)
        cached = request.cached or 0
        response["usage"] = {
            "input_tokens": request.prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": request.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": request.prompt + request.output,
        }
        if status == "incomplete":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response

    @staticmethod
    def _part(text: str) -> Json:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}

    def _message(self, content: list[Json], status: str) -> Json:
        head = {"id": self._item, "type": "message", "role": "assistant"}
        return head | {"status": status, "content": content}

    def _response(self, request: Request, output: list[Json], status: str) -> Json:
        body = self.body
        return {
            "id": self.id,
            "created_at": self.created,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "metadata": body.get("metadata"),
            "model": self.model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "temperature": body.get("temperature", 1.0),
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools") or [],
            "top_p": body.get("top_p", 1.0),
            "background": False,
            "max_output_tokens": request.max_tokens,
            "service_tier": "auto",
            "status": status,
            "truncation": "disabled",
            "usage": None,
        }


def _data(event: Json) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"


def _event(event: Json) -> bytes:
    return b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
