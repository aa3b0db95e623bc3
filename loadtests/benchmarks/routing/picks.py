"""What one pick costs a fleet of 1 to 1,000 workers: CPU of the picker's own policy, without gRPC. From the
repository's root:

    python -m loadtests.benchmarks.routing.picks

Each worker has read the system prompt and its share of conversations; prompts are new turns of them.
"""

from __future__ import annotations

import time

from freehold.gateway.picker.policy import Worker, by_prefix
from freehold.gateway.picker.prompt import Prompt, prompt_of

from .workloads import Writer

_FLEETS = (1, 10, 100, 1000)
_SIZES = {"4 KB": 1_024, "200 KB": 51_200}
_PICKS = 200


def main() -> None:
    print("microseconds of CPU a pick, beside parsing and hashing of the body")
    print(f"{'workers':>8}" + "".join(f"{size:>10}" for size in _SIZES))
    for count in _FLEETS:
        costs = (_microseconds(count, tokens) for tokens in _SIZES.values())
        print(f"{count:>8}" + "".join(f"{cost:>10.0f}" for cost in costs), flush=True)


def _microseconds(count: int, tokens: int) -> float:
    workers = [Worker("chat", f"chat-{n}", f"10.0.{n // 250}.{n % 250}:8000") for n in range(count)]
    prompts = _prompts(tokens)
    for place, prompt in enumerate(prompts):
        by = workers[place % count]
        by.index.add(prompt.chain[:-2])  # all but the newest turn
        by.in_flight = place % 3
    for worker in workers:
        worker.index.add(prompts[0].chain[:4])  # the system prompt, for all
    began = time.process_time()
    for place in range(_PICKS):
        by_prefix(workers, prompts[place % len(prompts)], replicas=1)
    return (time.process_time() - began) / _PICKS * 1e6


def _prompts(tokens: int) -> list[Prompt]:
    writer = Writer(0)
    system = {"role": "system", "content": writer.text(min(500, tokens // 2))}
    questions = (writer.text(tokens - 500 if tokens > 2000 else tokens // 2) for _ in range(20))
    return [
        prompt_of({"messages": [system, {"role": "user", "content": question}]}, "chat")
        for question in questions
    ]


if __name__ == "__main__":
    main()
