"""Which events count as output: vLLM 0.33's rules."""

from __future__ import annotations

import pytest

from freehold.load.events import BrokenStreamError, decode, is_output, payload, usage_of


@pytest.mark.parametrize(
    ("choice", "counts"),
    [
        ({"delta": {"content": "a"}}, True),
        ({"delta": {"role": "assistant", "content": "a"}}, True),
        ({"delta": {"reasoning": "hm"}}, True),
        ({"delta": {"reasoning_content": "hm"}}, True),
        ({"delta": {"tool_calls": [{"index": 0}]}}, True),
        ({"delta": {"function_call": {"name": "f"}}}, True),
        ({"delta": {"content": ""}}, True),  # a special token
        ({"delta": {"role": "assistant", "content": ""}}, False),  # opens the answer
        ({"delta": {"role": "assistant"}}, False),
        ({"delta": {}}, False),
        ({"delta": {"content": None, "tool_calls": []}}, False),
        ({"text": "a"}, True),
        ({"text": ""}, True),
        ({"finish_reason": "stop"}, False),
    ],
)
def test_what_counts_as_output(choice: dict[str, object], counts: bool) -> None:
    assert is_output(choice) is counts


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b'data: {"a": 1}\n', b'{"a": 1}'),
        (b"data:{}\r\n", b"{}"),
        (b"data: [DONE]\n", b"[DONE]"),
        (b": a comment, as proxies send to keep the line open\n", None),
        (b"event: message\n", None),
        (b"\n", None),
    ],
)
def test_data_of_a_line(line: bytes, data: bytes | None) -> None:
    assert payload(line) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"choices": [', "not JSON"),
        (b"[1]", "not an object"),
        (b'{"error": {"message": "out of memory"}}', "out of memory"),
        (b'{"error": "overloaded"}', "overloaded"),
    ],
)
def test_a_broken_chunk_says_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(BrokenStreamError, match=message):
        decode(data)


def test_usage_with_and_without_cached_tokens() -> None:
    counts = {"prompt_tokens": 5, "completion_tokens": 2}
    plain = usage_of({"usage": counts})
    assert plain and (plain.prompt_tokens, plain.output_tokens, plain.cached_tokens) == (5, 2, None)
    cached = usage_of({"usage": {**counts, "prompt_tokens_details": {"cached_tokens": 4}}})
    assert cached and cached.cached_tokens == 4
    assert usage_of({"usage": None}) is None
