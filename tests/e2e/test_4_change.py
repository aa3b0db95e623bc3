"""Changing the stack file changes the running stack, and only what differs."""

from __future__ import annotations

from typing import Any

import pytest
from gateway import conformance
from gateway.door import Door

from .conftest import LiveStack, stack_tree, text_of

HITS = "vllm:prefix_cache_hits_total"
EXTERNAL_HITS = "vllm:external_prefix_cache_hits_total"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def changed(stack: LiveStack) -> tuple[dict[str, Any], dict[str, Any]]:
    """The second chat model goes; a tensor-parallel one and a quantized one come."""
    before = stack.status()
    tree = stack_tree()
    tree["pools"] = [pool for pool in tree["pools"] if pool["name"] != "assistant"]
    engine = {
        "dtype": "bfloat16",
        "max_model_len": 2048,
        "kv_cache_gib": 0.25,
        "enforce_eager": True,
    }
    base = {"role": "generate", "model": "tiny-chat"}
    tree["pools"] += [
        {
            "name": "wide",
            **base,
            "engine": {
                **engine,
                "tensor_parallel": 2,
                "lora": [{"name": "law", "path": "tiny-lora"}],
                "max_lora_rank": 8,
            },
        },
        {
            "name": "small",
            **base,
            "engine": {**engine, "quantization": "int8_per_channel_weight_only"},
        },
    ]
    stack.write(tree)
    stack.up()
    return before, stack.status()


def test_only_what_differs_is_restarted(changed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = changed
    assert before.keys() - after.keys() == {"assistant-0"}
    assert after.keys() - before.keys() == {"wide-0", "small-0"}
    for name in ("chat-0", "chat-1", "embed-0", "rerank-0", "cache", "redis"):
        assert after[name]["pid"] == before[name]["pid"], name


@pytest.mark.parametrize("model", ["wide", "small"])
def test_tensor_parallel_and_quantized_workers_answer(
    stack: LiveStack, changed: tuple[dict[str, Any], dict[str, Any]], model: str
) -> None:
    answer = stack.chat("Hello", model=model, max_tokens=8, ignore_eos=True)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 8


def test_an_adapter_answers_under_its_own_name_from_its_base_s_worker(
    stack: LiveStack, changed: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    def say(model: str) -> str:
        answer = stack.chat("Hello", model=model, max_tokens=16, ignore_eos=True)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]

    conformance.an_adapter_is_served_under_its_own_name(
        Door(stack.base_url, stack.key, generate="wide", adapter="law")
    )
    assert say("law") != say("wide")  # the same worker, other weights


def test_an_adapter_never_continues_from_its_base_s_cached_prompt(
    stack: LiveStack, changed: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """LMCache's own key knows no adapter."""
    prompt = text_of(400, "adapter")
    for _ in range(2):
        assert stack.chat(prompt, model="wide").status_code == 200
    before = {name: stack.metric("wide-0", name) for name in (HITS, EXTERNAL_HITS)}
    assert stack.chat(prompt, model="law").status_code == 200
    assert {name: stack.metric("wide-0", name) for name in before} == before
    assert stack.chat(prompt, model="law").status_code == 200
    assert stack.metric("wide-0", HITS) > before[HITS]


def test_two_ranks_share_the_tensor_parallel_model(
    stack: LiveStack, changed: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    log = (stack.root / ".freehold" / stack.name / "logs" / "wide-0.log").read_text()
    assert "world_size=2 rank=0" in log and "world_size=2 rank=1" in log


def test_a_second_up_changes_nothing(stack: LiveStack) -> None:
    before = {name: process["pid"] for name, process in stack.status().items()}
    stack.up()
    assert {name: process["pid"] for name, process in stack.status().items()} == before


def test_a_refused_file_leaves_the_stack_as_it_was(stack: LiveStack) -> None:
    before = {name: process["pid"] for name, process in stack.status().items()}
    good = stack.file.read_text()
    try:
        stack.file.write_text(good.replace("tensor_parallel: 2", "tensor_parallel: 3"))
        done = stack.freehold("up", stack.name)
    finally:
        stack.file.write_text(good)
    assert done.returncode == 2
    assert "tensor_parallel" in done.stderr and "Traceback" not in done.stderr
    assert {name: process["pid"] for name, process in stack.status().items()} == before
