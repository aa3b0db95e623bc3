"""A small load for rehearsals: keep so many chats in flight, take times, ask the engines why.

One prompt has a part that all share, as large as the share of it that the plan expects in the cache,
and a part of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from .prompts import of_chat
from .tokens import Answer, count

# What the chat template adds to a prompt of one message.
_AROUND = count(of_chat([{"role": "user", "content": ""}]))
_SCRAPE_SECONDS = 1.0
# Answers differ in length by up to this share, so that requests do not run in step with each other and
# queue behind each other's prompts round after round. The plan's medians are of a load that does not.
_VARIES = 0.2


@dataclass(frozen=True)
class Traffic:
    """What one pool is asked."""

    base_url: str
    """Of the gateway, without `/v1`."""
    key: str
    model: str
    concurrency: int
    input_tokens: int
    output_tokens: int
    prefix_hit_rate: float
    warm_seconds: float
    """Not counted: caches fill, and clients that began together drift apart."""
    seconds: float


@dataclass
class Answered:
    """One request; times by the monotonic clock."""

    sent: float
    asked: int
    """Tokens of the answer that were asked for."""
    events: list[float] = field(default_factory=list)
    """When text arrived."""
    tokens: int = 0
    prompt_tokens: int = 0
    status: int = 0
    ended: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.tokens > 0 and self.ended > 0


@dataclass(frozen=True)
class Measured:
    """The seven metrics of a pool, by `vllm bench serve`'s definitions, over the counted time."""

    requests: int
    failed: Mapping[int, int]
    """Answers that were no 200, by status; 0 is a connection that broke off."""
    median_ttft_ms: float
    median_tpot_ms: float
    median_itl_ms: float
    output_throughput: float
    total_token_throughput: float
    request_throughput: float
    max_concurrent_requests: int


async def drive(traffic: Traffic, seed: int = 0) -> Measured:
    """Raises ValueError when nothing was answered in the counted time."""
    chance = random.Random(seed)
    begin = time.monotonic()
    end = begin + traffic.warm_seconds + traffic.seconds
    answers: list[Answered] = []

    async def client(number: int) -> None:
        await asyncio.sleep(number / traffic.concurrency * traffic.warm_seconds)
        while time.monotonic() < end:
            varied = traffic.output_tokens * chance.uniform(1 - _VARIES, 1 + _VARIES)
            asked = max(1, round(varied))
            answered = await _ask(traffic, _prompt(traffic, chance), asked, end)
            answers.append(answered)
            if not answered.ok:
                await asyncio.sleep(0.25)  # what refuses is not asked again at once

    await asyncio.gather(*(client(number) for number in range(traffic.concurrency)))
    return _measured(traffic, answers, begin + traffic.warm_seconds, end)


def _prompt(traffic: Traffic, chance: random.Random) -> str:
    length = max(1, traffic.input_tokens - _AROUND)
    shared = int(length * traffic.prefix_hit_rate)
    # Each model's own beginning, so that pools do not share what they could not.
    seed = sum(traffic.model.encode())
    own = Answer.words(chance.getrandbits(40), length - shared).text
    return Answer.words(seed, shared).text + own if shared else own


def _measured(traffic: Traffic, answers: Sequence[Answered], begin: float, end: float) -> Measured:
    good = [a for a in answers if a.ok and a.sent >= begin and a.ended <= end]
    good = good or [a for a in answers if a.ok and begin <= a.ended <= end]
    failed: dict[int, int] = {}
    for answer in answers:
        if not answer.ok and answer.sent < end and answer.ended and answer.ended <= end:
            failed[answer.status] = failed.get(answer.status, 0) + 1
    if not good:
        raise ValueError(f"pool {traffic.model}: no answer was complete ({failed or 'none ended'})")
    arrivals = [a.events[0] - a.sent for a in good]
    paces = [(a.events[-1] - a.events[0]) / (a.tokens - 1) for a in good if a.tokens > 1]
    gaps = [
        later - earlier
        for a in good
        for earlier, later in zip(a.events, a.events[1:], strict=False)
    ]
    # Everything that came in the counted time, of whatever request; an event may hold several tokens.
    span = end - begin
    each = sum(a.tokens for a in good) / sum(len(a.events) for a in good)
    within = [(a, sum(begin <= event <= end for event in a.events) * each) for a in answers]
    output = sum(tokens for _, tokens in within)
    first = sum(a.prompt_tokens for a in answers if a.events and begin <= a.events[0] <= end)
    return Measured(
        requests=len(good),
        failed=failed,
        median_ttft_ms=statistics.median(arrivals) * 1e3,
        median_tpot_ms=statistics.median(paces or [0.0]) * 1e3,
        median_itl_ms=statistics.median(gaps or [0.0]) * 1e3,
        output_throughput=output / span,
        total_token_throughput=(output + first) / span,
        request_throughput=sum(tokens / a.asked for a, tokens in within) / span,
        max_concurrent_requests=_peak(answers),
    )


def _peak(answers: Sequence[Answered]) -> int:
    changes = sorted(
        [(a.sent, 1) for a in answers] + [(a.ended or float("inf"), -1) for a in answers]
    )
    running = peak = 0
    for _, change in changes:
        running += change
        peak = max(peak, running)
    return peak


# --- One request --------------------------------------------------------------------------------------


async def _ask(traffic: Traffic, prompt: str, asked: int, give_up: float) -> Answered:
    body = {
        "model": traffic.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": asked,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    address = urlsplit(traffic.base_url)
    loop = asyncio.get_running_loop()
    answered = Answered(time.monotonic(), asked)
    done: asyncio.Future[None] = loop.create_future()
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\n"
        f"authorization: Bearer {traffic.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\nconnection: close\r\n\r\n"
    ).encode()
    reader = _Reader(answered, done)
    try:
        transport, _ = await loop.create_connection(
            lambda: reader, address.hostname or "", address.port or 80
        )
    except OSError:
        answered.ended = time.monotonic()
        return answered
    transport.write(head + data)
    try:
        async with asyncio.timeout_at(loop.time() + max(0.0, give_up - time.monotonic())):
            await done
    except TimeoutError:
        # Out of time: what came counts for throughput, the request itself for nothing.
        answered.prompt_tokens = answered.prompt_tokens or traffic.input_tokens
        answered.ended = 0.0
    finally:
        transport.abort()
    return answered


class _Reader(asyncio.Protocol):
    """Notes when text arrives; reads no more of an event than it must."""

    def __init__(self, answered: Answered, done: asyncio.Future[None]) -> None:
        self._answered, self._done = answered, done
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        answered = self._answered
        for line in lines:
            if line.startswith(b"data: {"):
                if b'"usage":{' in line:
                    usage = json.loads(line[6:])["usage"]
                    answered.tokens = usage["completion_tokens"]
                    answered.prompt_tokens = usage["prompt_tokens"]
                elif b'"content":"' in line and b'"content":""' not in line:
                    answered.events.append(now)
            elif line.startswith(b"HTTP/1.1 ") and not answered.status:
                answered.status = int(line[9:12])
            elif line.startswith(b"data: [DONE]"):
                self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self._done.done():
            self._answered.ended = time.monotonic()
            self._done.set_result(None)


# --- What the engines say -----------------------------------------------------------------------------


@dataclass
class Watched:
    """The worst that one pool's engines were in, while they were watched."""

    most_waiting: float = 0.0
    most_running: float = 0.0
    fullest: float = 0.0
    """Share of the KV cache in use."""
    preemptions: float = 0.0
    rejections: float = 0.0
    late_seconds: float = 0.0
    """The machine could not keep the model's time: nothing that was measured counts."""
    prefix_hits: float = 0.0
    prefix_queries: float = 0.0

    def why(self, seats: int) -> str | None:
        """The reason for latencies above the plan's, by what was full; None when nothing was."""
        if self.preemptions:
            return (
                f"KV exhaustion: {self.preemptions:.0f} preemptions, the cache was "
                f"{self.fullest:.0%} full"
            )
        if self.most_waiting >= 1 and self.fullest > 0.9:
            return (
                f"KV exhaustion: the cache was {self.fullest:.0%} full, "
                f"{self.most_waiting:.0f} requests waited for room in it"
            )
        if self.most_waiting >= 1 and self.most_running >= seats:
            return f"queue: all {seats} seats were taken, {self.most_waiting:.0f} requests waited"
        if self.rejections:
            return f"queue: {self.rejections:.0f} requests were refused by a full queue"
        return None


async def watch(urls: Sequence[str], watched: Watched) -> None:
    """Scrapes the engines until cancelled; each figure is the worst engine's, counters are sums."""
    while True:
        samples = await asyncio.gather(*(_scrape(url) for url in urls), return_exceptions=True)
        good = [cast(dict[str, float], s) for s in samples if isinstance(s, dict)]
        _note(watched, good)
        await asyncio.sleep(_SCRAPE_SECONDS)


def _note(watched: Watched, samples: Sequence[Mapping[str, float]]) -> None:
    def worst(name: str) -> float:
        return max((sample.get(name, 0.0) for sample in samples), default=0.0)

    def total(name: str) -> float:
        return sum(sample.get(name, 0.0) for sample in samples)

    watched.most_waiting = max(watched.most_waiting, worst("vllm:num_requests_waiting"))
    watched.most_running = max(watched.most_running, worst("vllm:num_requests_running"))
    watched.fullest = max(watched.fullest, worst("vllm:kv_cache_usage_perc"))
    watched.preemptions = max(watched.preemptions, total("vllm:num_preemptions_total"))
    watched.rejections = max(watched.rejections, total("vllm:admission_rejections_total"))
    watched.prefix_hits = max(watched.prefix_hits, total("vllm:prefix_cache_hits_total"))
    watched.prefix_queries = max(watched.prefix_queries, total("vllm:prefix_cache_queries_total"))
    watched.late_seconds = max(watched.late_seconds, worst("late_seconds"))


async def _scrape(url: str) -> dict[str, float]:
    found = {"late_seconds": json.loads(await _get(url, "/simulator/clock"))["late_seconds"]}
    for line in (await _get(url, "/metrics")).splitlines():
        if line.startswith("vllm:") and "_bucket" not in line:
            name, value = line.partition("{")[0], line.rpartition(" ")[2]
            found[name] = found.get(name, 0.0) + float(value)
    return found


async def _get(url: str, path: str) -> str:
    address = urlsplit(url)
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            return (await reader.read()).partition(b"\r\n\r\n")[2].decode()
        finally:
            writer.close()
