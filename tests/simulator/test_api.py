"""The API, as vLLM's clients see it."""

from __future__ import annotations

import base64
import json
import struct
import time
from typing import Any

import httpx
import pytest
from openai import OpenAI

from .conftest import Server, Start

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Bern", "Rome"]},
        "people": {"type": "integer", "minimum": 3},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "near": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        "home": {"$ref": "#/$defs/Place"},
    },
    "required": ["city", "people", "tags", "near", "home"],
    "$defs": {"Place": {"type": "object", "properties": {"name": {"type": "string"}}}},
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def client(server: Server) -> OpenAI:
    return OpenAI(
        base_url=f"http://127.0.0.1:{server.replica.port}/v1",
        api_key="none",
        max_retries=0,
        timeout=20,
    )


def events(answer: httpx.Response) -> list[Any]:
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == answer.status_code
    return error


# --- Generating ---------------------------------------------------------------------------------------


def test_a_chat_has_the_asked_length_and_counts_as_tokenize_does(start: Start) -> None:
    server = start()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why? 🙂"}]
    answer = server.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 37})
    body = answer.json()
    counted = server.post("/tokenize", json={"messages": messages}).json()
    assert body["usage"]["prompt_tokens"] == counted["count"] == len(counted["tokens"])
    assert body["usage"]["completion_tokens"] == 37
    text = body["choices"][0]["message"]["content"]
    assert server.post("/tokenize", json={"prompt": text}).json()["count"] == 37
    assert body["choices"][0]["finish_reason"] == "length"


def test_a_stream_says_the_same_as_the_whole(start: Start) -> None:
    server = start()
    whole = server.chat("hi", max_tokens=9).json()
    options = {"include_usage": True}
    stream = events(server.chat("hi", max_tokens=9, stream=True, stream_options=options))
    assert stream[-1] == "[DONE]"
    first, *_, last, usage = stream[:-1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(stream) == 1 + 9 + 2
    text = "".join(c["choices"][0]["delta"]["content"] for c in stream[:-2])
    assert text == whole["choices"][0]["message"]["content"]
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]
    assert len({chunk["id"] for chunk in stream[:-1]}) == 1


def test_tokens_arrive_one_by_one_and_not_before_their_steps_are_over(start: Start) -> None:
    server = start(timing={"step_seconds": 0.05, "sequence_seconds": 0, "token_seconds": 0})
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 6, "stream": True}
    started, arrivals = time.monotonic(), []
    with server.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                arrivals.append(time.monotonic() - started)
    assert len(arrivals) == 6
    assert all(at > 0.05 * (place + 1) * 0.99 for place, at in enumerate(arrivals))


def test_an_answer_without_a_limit_ends_by_itself(start: Start) -> None:
    choice = start().chat("tell me").json()["choices"][0]
    assert choice["finish_reason"] == "stop"


def test_ignore_eos_goes_on_to_the_end_of_the_context(start: Start) -> None:
    body = start("--max-model-len", "512").chat("x", ignore_eos=True).json()
    assert body["usage"]["total_tokens"] == 512
    assert body["choices"][0]["finish_reason"] == "length"


def test_a_stop_string_ends_the_answer(start: Start) -> None:
    server = start()
    text = server.chat("hi", max_tokens=20).json()["choices"][0]["message"]["content"]
    stop = text.split()[5]
    body = server.chat("hi", max_tokens=20, stop=[stop]).json()
    choice = body["choices"][0]
    assert choice["message"]["content"] == text[: text.index(stop)]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


def test_the_same_prompt_gives_the_same_answer_and_another_seed_another(start: Start) -> None:
    server = start()

    def text(**more: Any) -> str:
        return server.chat("hi", max_tokens=20, **more).json()["choices"][0]["message"]["content"]

    assert text() == text() != text(seed=5)


def test_completions_take_text_and_token_numbers_alike(start: Start) -> None:
    server = start("--enable-prompt-tokens-details")
    prompt = "dog " * 64
    numbers = server.post("/tokenize", json={"prompt": prompt}).json()["tokens"]
    assert len(numbers) == 64
    first = server.post("/v1/completions", json={"prompt": prompt, "max_tokens": 3}).json()
    second = server.post("/v1/completions", json={"prompt": numbers, "max_tokens": 3}).json()
    assert first["choices"][0]["text"] == second["choices"][0]["text"]
    assert second["usage"]["prompt_tokens_details"] == {"cached_tokens": 48}
    assert first["usage"]["completion_tokens"] == 3
    default = server.post("/v1/completions", json={"prompt": "x"}).json()
    assert default["usage"]["completion_tokens"] == 16


def test_detokenize_is_tokenize_backwards(start: Start) -> None:
    server = start()
    text = "Grüße, 世界!"
    body = server.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert server.post("/detokenize", json={"tokens": body["tokens"]}).json() == {"prompt": text}
    assert len(body["token_strs"]) == body["count"]


def test_openai_s_client_reads_all_of_it(start: Start) -> None:
    api = client(start())
    messages: Any = [{"role": "user", "content": "hello"}]
    answer = api.chat.completions.create(model="chat", messages=messages, max_tokens=5)
    assert answer.choices[0].message.content
    stream = api.chat.completions.create(model="chat", messages=messages, max_tokens=5, stream=True)
    assert sum(bool(c.choices[0].delta.content) for c in stream) == 5
    response = api.responses.create(model="chat", input="hello", max_output_tokens=7)
    assert response.usage and response.usage.output_tokens == 7
    assert len(response.output_text) == 28
    deltas = api.responses.create(model="chat", input="hello", max_output_tokens=7, stream=True)
    kinds = [event.type for event in deltas]
    assert kinds[0] == "response.created" and kinds[-1] == "response.incomplete"
    assert kinds.count("response.output_text.delta") == 7
    assert [model.id for model in api.models.list()] == ["chat"]


def test_anthropic_s_messages(start: Start) -> None:
    server = start()
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "system": "s"}
    whole = server.post("/v1/messages", json=body).json()
    assert whole["usage"]["output_tokens"] == 6 and whole["stop_reason"] == "max_tokens"
    stream = events(server.post("/v1/messages", json={**body, "stream": True}))
    assert [event["type"] for event in stream[:2]] == ["message_start", "content_block_start"]
    assert stream[-1] == {"type": "message_stop"}
    text = "".join(e["delta"]["text"] for e in stream if e["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]


def test_a_forced_tool_is_called_with_arguments_that_fit_its_schema(start: Start) -> None:
    server = start()
    more: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}
    choice = server.chat("rain?", **more).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "text"}
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    chunks = events(server.chat("rain?", stream=True, **more))[:-1]
    calls = [c["choices"][0]["delta"].get("tool_calls", [{}])[0] for c in chunks]
    parts = [call.get("function", {}).get("arguments", "") for call in calls]
    assert json.loads("".join(parts)) == {"city": "text"}
    named = {"type": "function", "function": {"name": "weather"}}
    choice = server.chat("rain?", tools=[WEATHER], tool_choice=named).json()["choices"][0]
    assert choice["finish_reason"] == "stop"


def test_a_schema_is_answered_with_an_instance(start: Start) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    choice = start().chat("json", response_format=wanted).json()["choices"][0]
    value = json.loads(choice["message"]["content"])
    expected = {"city": "Bern", "people": 3, "tags": ["text", "text"], "near": None}
    assert value == {**expected, "home": {"name": "text"}}
    assert choice["finish_reason"] == "stop"


def test_adapters_are_models_of_their_own(start: Start) -> None:
    server = start("--enable-lora", "--lora-modules", "law=/adapters/law")
    cards = server.get("/v1/models").json()["data"]
    assert [(card["id"], card["parent"]) for card in cards] == [("chat", None), ("law", "chat")]
    assert server.chat("x", model="law", max_tokens=2).json()["model"] == "law"


# --- Pooling ------------------------------------------------------------------------------------------


def test_embeddings_are_unit_vectors_that_know_shared_words(start: Start) -> None:
    server = start("--runner", "pooling", "--convert", "embed", dimensions=64)
    texts = ["a red cat sat", "the red cat sat", "tax law of 1998"]
    body = server.post("/v1/embeddings", json={"input": texts}).json()
    vectors = [entry["embedding"] for entry in body["data"]]

    def product(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert [round(product(v, v), 4) for v in vectors] == [1.0] * 3
    assert product(vectors[0], vectors[1]) > 0.5 > product(vectors[0], vectors[2])
    assert body["usage"]["prompt_tokens"] == 4 + 4 + 4
    coded = server.post(
        "/v1/embeddings", json={"input": texts[0], "encoding_format": "base64"}
    ).json()
    plain = struct.unpack("<64f", base64.b64decode(coded["data"][0]["embedding"]))
    assert list(plain) == pytest.approx(vectors[0])
    assert len(client(server).embeddings.create(model="chat", input="x").data[0].embedding) == 64


def test_reranking_puts_the_nearest_first(start: Start) -> None:
    server = start("--runner", "pooling", "--convert", "classify")
    documents = ["tax law", "a big cat", "the cat sat"]
    body = {"query": "cat sat", "documents": documents}
    for path in ("/v1/rerank", "/rerank"):
        answer = server.post(path, json=body).json()
        assert [result["index"] for result in answer["results"]] == [2, 1, 0]
        assert answer["results"][0]["document"]["text"] == "the cat sat"
        assert answer["usage"]["total_tokens"] > 0
    assert len(server.post("/rerank", json={**body, "top_n": 1}).json()["results"]) == 1
    scores = server.post("/score", json={"text_1": "cat sat", "text_2": documents}).json()
    assert [entry["index"] for entry in scores["data"]] == [0, 1, 2]
    assert scores["data"][2]["score"] == answer["results"][0]["relevance_score"]


# --- Refusals -----------------------------------------------------------------------------------------


def test_errors_have_vllm_s_shape(start: Start) -> None:
    server = start("--max-model-len", "256")
    unknown = error_of(server.chat("x", model="gpt-9"))
    assert (unknown["type"], unknown["param"], unknown["code"]) == ("NotFoundError", "model", 404)
    assert "`gpt-9` does not exist" in unknown["message"]
    long = error_of(server.chat("cat " * 300, max_tokens=5))
    assert long["code"] == 400 and "maximum context length is 256 tokens" in long["message"]
    assert error_of(server.post("/v1/chat/completions", json={"model": "chat"}))["code"] == 400
    assert error_of(server.post("/v1/chat/completions", content=b"{no"))["code"] == 400
    assert error_of(server.chat("x", max_tokens=0))["param"] == "max_tokens"
    assert error_of(server.chat("x", tools=[WEATHER], tool_choice="auto"))["code"] == 400
    assert error_of(server.get("/v1/chat/completions"))["code"] == 405
    assert error_of(server.post("/v1/embeddings", json={"input": "x"}))["code"] == 404
    picture = [{"type": "image_url", "image_url": {"url": "data:..."}}]
    assert error_of(server.chat(picture))["code"] == 400  # type: ignore[arg-type]


def test_a_full_queue_is_503(start: Start) -> None:
    server = start("--max-num-queued-reqs", "1", timing={"step_seconds": 0.05})
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 50, "stream": True}
    with server.stream("POST", "/v1/chat/completions", json=body) as running:
        lines = running.iter_lines()  # kept: an iterator that goes closes its answer
        next(lines)
        error = error_of(server.chat("y"))
    assert (error["code"], error["type"]) == (503, "Service Unavailable")
    assert server.metric("vllm:admission_rejections_total", reason="max_num_queued_reqs") == 1


def test_a_key_guards_v1_and_nothing_else(start: Start) -> None:
    server = start("--api-key", "secret")
    assert server.get("/v1/models").status_code == 401
    assert server.get("/v1/models").json() == {"error": "Unauthorized"}
    right = {"authorization": "Bearer secret"}
    assert server.get("/v1/models", headers=right).status_code == 200
    assert server.get("/health").status_code == server.get("/metrics").status_code == 200


# --- HTTP ---------------------------------------------------------------------------------------------


def test_bodies_may_be_long_and_chunked(start: Start) -> None:
    server = start("--max-model-len", "1M")
    body = json.dumps({"prompt": "cat " * 300_000, "max_tokens": 1}).encode()
    parts = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    answer = server.post("/v1/completions", content=parts)
    assert answer.json()["usage"]["prompt_tokens"] == 300_000
    assert server.post("/v1/completions", content=body).status_code == 200


def test_the_request_id_comes_back_where_asked(start: Start) -> None:
    server = start("--enable-request-id-headers")
    messages = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    answer = server.post("/v1/chat/completions", json=messages, headers={"x-request-id": "abc"})
    assert answer.headers["x-request-id"] == "abc"
    assert answer.json()["id"] == "chatcmpl-abc"


def test_a_client_that_leaves_frees_its_place(start: Start) -> None:
    server = start(timing={"step_seconds": 0.02})
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2000, "stream": True}
    with server.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert server.metric("vllm:num_requests_running") == 1
    server.chat("y", max_tokens=1)
    assert server.metric("vllm:num_requests_running") == 0
    assert server.metric("vllm:request_success_total", finished_reason="abort") == 1
    assert server.metric("vllm:kv_cache_usage_perc") == 0
