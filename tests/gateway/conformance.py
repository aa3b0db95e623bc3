"""What any gateway of Freehold's holds, shown from a client's side alone: run before stub engines here,
and before the real ones by the end-to-end suite (`for case in conformance.suite.cases: case.run(door)`)."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import struct

import httpx
from openai import OpenAI

from . import mutations as broken
from .cases import Suite
from .door import Door, Json, expect_error, fresh_id

suite: Suite[Door] = Suite()
case = suite.case

ADMIN_PATHS = (
    *("/metrics", "/health", "/ping", "/version", "/docs", "/openapi.json", "/load"),
    *("/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/reset_prefix_cache"),
    *("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/server_info", "/pause"),
    *("/v1/chat/completions/render", "/config_dump", "/quitquitquit", "/stats", "/"),
)
# Other spellings of a served path, and ways from it to one that is not.
PATH_TRICKS = (
    *("//v1/chat/completions", "/v1//chat/completions", "/./v1/chat/completions"),
    *("/v1/chat/completions/", "/V1/chat/completions", "/v1/chat%2fcompletions"),
    *("/%76%31/chat/completions", "/v1/chat/completions;x=1", "/v1/chat/completions%00"),
    *("/v1/../metrics", "/v1/models/../../metrics", "/v1/models/..%2f..%2fmetrics"),
    *("/v1/models/%2e%2e/%2e%2e/metrics", "/v1/chat/completions/../../../metrics"),
    *("/v1/models/chat", "/v1/models/metrics", "/metrics?x=/v1/models", "/v1\\models"),
)


def endpoints(door: Door) -> dict[str, Json]:
    """A small request for every served path."""
    chat, text = door.chat(), {"model": door.generate, "max_tokens": 4}
    pair = {"model": door.rerank, "query": "cat", "documents": ["a cat", "tax law"]}
    score = {"model": door.rerank, "text_1": "cat", "text_2": "a cat"}
    return {
        "/v1/chat/completions": chat,
        "/v1/completions": {**text, "prompt": "hello"},
        "/v1/responses": {"model": door.generate, "input": "hello", "max_output_tokens": 16},
        "/v1/messages": chat,
        "/v1/embeddings": {"model": door.embed, "input": "hello"},
        "/v1/rerank": pair,
        "/rerank": pair,
        "/v1/score": score,
        "/score": score,
        "/tokenize": {"model": door.generate, "prompt": "hello"},
        "/detokenize": {"model": door.generate, "tokens": [1, 2, 3]},
    }


def _openai(door: Door) -> OpenAI:
    return OpenAI(base_url=f"{door.base_url}/v1", api_key=door.key, max_retries=0, timeout=60)


@case(broken.invented_model)
def models_are_listed_in_openai_s_shape(door: Door) -> None:
    answer = door.get("/v1/models")
    assert answer.status_code == 200
    listed = answer.json()
    assert listed["object"] == "list"
    assert all(
        set(model) >= {"id", "object", "created", "owned_by"} and model["object"] == "model"
        for model in listed["data"]
    )
    names = [model["id"] for model in listed["data"]]
    assert len(set(names)) == len(names)
    assert {door.generate, door.embed, door.rerank} <= set(names)
    assert listed == door.get("/v1/models").json()
    for name in names:  # what is listed is served: it is only the endpoint that may not fit
        answer = door.post("/v1/embeddings", {"model": name, "input": "hello"})
        assert answer.status_code != 404, name


@case(broken.without_path("/v1/score"), broken.without_path("/tokenize"))
def every_endpoint_is_served(door: Door) -> None:
    for path, body in endpoints(door).items():
        answer = door.post(path, body)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
        assert "error" not in answer.json(), path


@case(broken.drop_filter("envoy.filters.http.rbac"), broken.plain_error(403))
def a_key_is_required_everywhere(door: Door) -> None:
    wrong: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": door.key},
        {"authorization": f"Basic {door.key}"},
        {"authorization": f"Bearer {door.key} "[:-2]},
        {"x-api-key": door.key},
        {"authorization": "Bearer wrong", "x-envoy-internal": "true"},
    ]
    for headers in wrong:
        for path in ("/v1/chat/completions", "/v1/embeddings", "/score", "/metrics", "/nothing"):
            answer = door.client.post(path, json=door.chat(), headers=headers)
            assert expect_error(answer, 401, "Authorization: Bearer")["code"] == "invalid_api_key"
        expect_error(door.client.get("/v1/models", headers=headers), 401)
    expect_error(door.client.get("/v1/models", params={"api_key": door.key}), 401)


@case(broken.everything_to_an_engine)
def engine_and_admin_paths_do_not_exist(door: Door) -> None:
    for path in ADMIN_PATHS:
        expect_error(door.get(path), 404, "serves")
        expect_error(door.post(path, door.chat()), 404, "serves")


@case(broken.everything_to_an_engine, broken.clean_paths, broken.paths_by_prefix)
def no_other_spelling_of_a_path_is_served(door: Door) -> None:
    for path in PATH_TRICKS:
        for method in ("GET", "POST"):
            status = _status_of_raw(door, method, path)
            assert status in (400, 404), f"{method} {path}: {status}"


def _status_of_raw(door: Door, method: str, path: str) -> int:
    """Sends the path as it is; httpx would clean it first."""
    url = httpx.URL(door.base_url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
    with contextlib.closing(connection):
        headers = door.headers({"content-type": "application/json"})
        connection.request(method, path, json.dumps(door.chat()), headers)
        return connection.getresponse().status


@case(broken.drop_routes("405", broken.refusing("method_not_allowed")))
def other_methods_are_refused(door: Door) -> None:
    for path in endpoints(door):
        answer = door.get(path)
        expect_error(answer, 405, "POST")
        assert answer.headers["allow"] == "POST"
    answer = door.post("/v1/models", {})
    expect_error(answer, 405, "GET")
    assert answer.headers["allow"] == "GET"


@case(broken.drop_routes("JSON", broken.refusing("invalid_json")))
def a_body_that_is_not_json_is_refused(door: Door) -> None:
    good = json.dumps(door.chat()).encode()
    for body in (b"{", b"hello", good[:-1], b"\xff\xfe"):
        answer = door.post("/v1/chat/completions", body)
        assert expect_error(answer, 400, "application/json")["code"] == "invalid_json"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
        answer = door.post("/v1/chat/completions", good, {"content-type": kind})
        assert expect_error(answer, 400, "application/json")["code"] == "invalid_json"
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        answer = door.post("/v1/chat/completions", good, {"content-type": kind})
        assert answer.status_code == 200, kind


@case(broken.drop_routes("no model", broken.refusing("model_required")))
def a_body_without_model_is_refused(door: Door) -> None:
    for body in (b"{}", b"[]", b'"model"', b'{"model": null}', b'{"model": ""}', b'{"a": "model"}'):
        answer = door.post("/v1/chat/completions", body)
        error = expect_error(answer, 400, "model")
        assert error["code"] == "model_required", body
        assert door.generate in error["message"]
    expect_error(door.post("/v1/chat/completions", b""), 400)


@case(broken.drop_routes("unknown model", broken.refusing("model_not_found")))
def an_unknown_model_is_a_404_that_lists_the_known(door: Door) -> None:
    for path in endpoints(door):
        answer = door.post(path, {"model": "nobody", "input": "x", "messages": []})
        error = expect_error(answer, 404, door.generate, door.embed, door.rerank)
        assert error["code"] == "model_not_found"


@case(broken.drop_routes("endpoint", broken.refusing("wrong_endpoint_for_model")))
def a_model_at_the_wrong_endpoint_is_a_400_that_says_so(door: Door) -> None:
    answer = door.post("/v1/chat/completions", {**door.chat(), "model": door.embed})
    expect_error(answer, 400, door.embed, "embedding", "/v1/embeddings")
    answer = door.post("/v1/embeddings", {"model": door.generate, "input": "hello"})
    expect_error(answer, 400, door.generate, "/v1/chat/completions")
    answer = door.post("/v1/embeddings", {"model": door.rerank, "input": "hello"})
    expect_error(answer, 400, "reranking", "/v1/rerank")


@case(broken.drop_routes("responses", broken.refusing("response_not_found")))
def responses_cannot_be_fetched_or_cancelled(door: Door) -> None:
    expect_error(door.get("/v1/responses/resp_1"), 404, "not stored")
    expect_error(door.post("/v1/responses/resp_1/cancel", {}), 404, "not stored")
    expect_error(door.get("/v1/responses"), 405)


@case(broken.model_by_text_search, broken.small_bodies)
def only_the_top_level_model_counts_wherever_it_stands(door: Door) -> None:
    """The parser decides: megabytes before it, escapes in it and models inside messages do not matter."""
    tricky = json.dumps([{"role": "user", "content": '"model":"nobody", "model": "x"'}])
    nested = json.dumps([{"role": "user", "content": "hi", "model": "nobody"}])
    padding = json.dumps("x" * (2 * 2**20))
    name = json.dumps(door.generate)
    for body in (
        f'{{"messages": {tricky}, "max_tokens": 4, "model": {name}}}',
        f'{{"messages": {nested}, "max_tokens": 4, "model": {name}}}',
        f'{{"metadata": {{"model": "nobody"}}, "messages": {tricky}, "max_tokens": 4, "model": {name}}}',
        f'{{"mo\\u0064el": {name}, "messages": {tricky}, "max_tokens": 4}}',
        f'{{"user": {padding}, "messages": {tricky}, "max_tokens": 4, "model": {name}}}',
    ):
        answer = door.post("/v1/chat/completions", body.encode())
        assert answer.status_code == 200, f"{body[:80]}: {answer.text[:200]}"
        assert answer.json()["model"] == door.generate
    messages = [{"role": "user", "content": f'"model": {name}'}]
    expect_error(door.post("/v1/chat/completions", {"messages": messages}), 400)
    expect_error(door.post("/v1/chat/completions", {"messages": messages, "model": "no"}), 404)


@case(broken.large_bodies, broken.plain_error(413))
def a_body_over_the_limit_is_refused(door: Door) -> None:
    body = json.dumps(door.chat("x" * door.max_body_bytes)).encode()
    headers = door.headers({"content-type": "application/json"})
    for content in (body, iter([body])):  # its length told, and in chunks
        answer = door.client.post("/v1/chat/completions", content=content, headers=headers)
        error = expect_error(answer, 413, str(door.max_body_bytes), "larger")
        assert error["code"] == "request_too_large"


@case(broken.new_request_ids)
def the_request_id_comes_back(door: Door) -> None:
    mine = fresh_id()
    answer = door.post("/v1/chat/completions", door.chat(), {"x-request-id": mine})
    assert answer.headers["x-request-id"] == mine
    assert door.get("/nothing", {"x-request-id": mine}).headers["x-request-id"] == mine
    first, second = (door.get("/v1/models").headers["x-request-id"] for _ in range(2))
    assert first != second


@case(broken.without_model("chat"))
def the_openai_client_streams(door: Door) -> None:
    with _openai(door).chat.completions.create(
        model=door.generate,
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        assert "content-length" not in stream.response.headers, "the stream was collected first"
        chunks = list(stream)
    assert len(chunks) > 2
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert sum(chunk.usage is not None for chunk in chunks) == 1


@case(broken.without_model("chat"))
def the_openai_client_calls_tools_and_gets_json(door: Door) -> None:
    client = _openai(door)
    parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    clock = {"name": "clock", "parameters": parameters, "strict": True}
    answer = client.chat.completions.create(
        model=door.generate,
        messages=[{"role": "user", "content": "What is the time?"}],
        tools=[{"type": "function", "function": clock}],  # pyright: ignore[reportArgumentType]
        tool_choice={"type": "function", "function": {"name": "clock"}},
        max_tokens=256,  # a grammar forces even random weights, but lets them put blanks in between
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert getattr(calls[0], "function").name == "clock"  # noqa: B009 - a union of tool kinds
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=door.generate,
        messages=[{"role": "user", "content": "A colour?"}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "colour", "schema": schema, "strict": True},
        },
        max_tokens=256,
    )
    content = json.loads(answer.choices[0].message.content or "")
    assert list(content) == ["colour", "sure"], "properties in the schema's order"
    assert content["colour"] in ("red", "blue")


@case(broken.without_path("/v1/embeddings"))
def the_openai_client_embeds_in_both_encodings(door: Door) -> None:
    client = _openai(door)
    floats = client.embeddings.create(model=door.embed, input="hello", encoding_format="float")
    packed = door.post(
        "/v1/embeddings", {"model": door.embed, "input": "hello", "encoding_format": "base64"}
    ).json()["data"][0]["embedding"]
    raw = base64.b64decode(packed)
    unpacked = struct.unpack(f"<{len(raw) // 4}f", raw)
    vector = floats.data[0].embedding
    assert len(vector) == len(unpacked)
    assert all(abs(a - b) < 1e-5 for a, b in zip(vector, unpacked, strict=True))


@case(broken.without_model("lora"))
def an_adapter_is_served_under_its_own_name(door: Door) -> None:
    if door.adapter is None:
        return
    answer = _openai(door).chat.completions.create(
        model=door.adapter, messages=[{"role": "user", "content": "hello"}], max_tokens=4
    )
    assert answer.model == door.adapter
    assert door.adapter in [model.id for model in _openai(door).models.list()]
