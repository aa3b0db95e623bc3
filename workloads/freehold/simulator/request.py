"""One request as the scheduler sees it: lengths, blocks, progress; no text but its answer's."""

from __future__ import annotations

from typing import Literal, Protocol

from . import blocks, tokens

FinishReason = Literal["stop", "length", "abort", "error"]


class Sink(Protocol):
    """Where a request's progress goes."""

    def produced(self, request: Request, count: int) -> None:
        """`count` more tokens of the answer are there (0: a pooling request's result)."""
        ...

    def finished(self, request: Request) -> None:
        """Nothing more will come; `request.finish` says why."""
        ...


class Request:
    """State of one sequence. Times are the engine clock's, seconds; 0 when not reached."""

    __slots__ = (
        "_answer_at",
        "_rest",
        "_root",
        "adapter",
        "answer",
        "arrived",
        "cached",
        "chain",
        "computed",
        "external",
        "finish",
        "first_token",
        "last_token",
        "limit",
        "max_tokens",
        "output",
        "phase",
        "preemptions",
        "private",
        "prompt",
        "published",
        "scheduled",
        "shared",
        "sink",
        "slots",
        "stop_reason",
    )

    def __init__(
        self,
        prompt: bytes,
        answer: tokens.Answer | None,
        sink: Sink,
        *,
        block_size: int,
        caching: bool = True,
        root: int = 0,
        adapter: str = "",
        length: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """`prompt` is the engine's input; `length` its tokens, when they are not counted by bytes.

        An `answer` of None makes it a pooling request: done when its prompt is computed.
        """
        self.prompt = tokens.count(prompt) if length is None else length
        self.answer = answer
        self.output = 0
        self.limit = answer.tokens if answer else 0
        self.max_tokens = max_tokens
        self.sink = sink
        self.adapter = adapter
        self.phase: Literal["waiting", "loading", "running", "done"] = "waiting"
        self.finish: FinishReason | None = None
        self.stop_reason: str | None = None
        # Blocks: hashes of the whole ones, and what this request holds of them.
        width = block_size * tokens.WIDTH
        self.chain = blocks.chain_of(prompt, width, root) if caching else []
        self._root = root
        self._rest = _padded(prompt[len(self.chain) * width :]) if caching else b""
        self._answer_at = 0  # bytes of the answer that are in the chain
        self.shared: list[int] = []
        self.private = 0
        self.published = 0
        """Blocks that are full and were offered to the cache."""
        self.slots = 0
        """Tokens that the blocks held have room for."""
        # Progress.
        self.computed = 0
        self.cached: int | None = None
        """Prompt tokens found in a cache when it was first scheduled."""
        self.external = 0
        """Of those, from the shared tier."""
        self.preemptions = 0
        self.arrived = self.scheduled = self.first_token = self.last_token = 0.0

    @property
    def length(self) -> int:
        """Tokens whose KV must be there before the next one comes."""
        return self.prompt + self.output

    def extend_chain(self, block_size: int) -> None:
        """Adds the hash of the next whole block: the prompt's end, then the answer so far."""
        width = block_size * tokens.WIDTH
        missing = width - len(self._rest)
        assert self.answer is not None
        text = self._rest + self.answer.bytes_between(self._answer_at, self._answer_at + missing)
        self._rest = b""
        self._answer_at += missing
        self.chain += blocks.chain_of(text, width, self.chain[-1] if self.chain else self._root)


def _padded(text: bytes) -> bytes:
    return text.ljust(tokens.count(text) * tokens.WIDTH)
