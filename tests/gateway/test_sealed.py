"""Tenant-sealed caches: the engine gets the tenant's salt and nothing else changes; never without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import conformance
from . import mutations as broken
from .cases import Case, Json, Mutation
from .door import Door, expect_error, fresh_id
from .running import KEY, LEFT, RIGHT, Bench, Engines, is_ready, running_gateway, until
from .stub_engine import Seen

CHAT = "/v1/chat/completions"
MINE = "tenant-acme"


@pytest.fixture(scope="module")
def sealed(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("sealed")
    with running_gateway(engines, folder, picker=True, sealed=True) as bench:
        yield bench


def seen_of(bench: Bench, path: str, body: Json | bytes, key: str = KEY) -> Seen:
    """What the engine got of one request."""
    request_id = fresh_id()
    headers = {"x-request-id": request_id, "authorization": f"Bearer {key}"}
    answer = bench.post(path, body, headers)
    assert answer.status_code == 200, f"{path}: {answer.text[:300]}"
    return bench.sole(request_id)[1]


def test_every_endpoint_gets_the_tenant_s_salt_and_the_rest_as_it_was(sealed: Bench) -> None:
    for path, body in conformance.endpoints(sealed).items():
        seen = seen_of(sealed, path, body)
        assert seen.json == {**body, "cache_salt": MINE}, path
        assert int(seen.headers["content-length"]) == len(seen.body)


def test_the_order_of_properties_is_kept(sealed: Bench) -> None:
    """Parsing and writing the body anew would be allowed to change it; grammars follow it."""
    text = b'{"model": "gpt-4o", "z": {"b": 1, "a": [1.50, 1e3]}, "messages": [], "a": 0} \r\n\t'
    seen = seen_of(sealed, CHAT, text)
    expected = text.rstrip()[:-1].replace(b"gpt-4o", b"chat")
    assert seen.body == expected + b',"cache_salt":"tenant-acme"}'


def test_tenants_of_one_group_share_a_salt(sealed: Bench) -> None:
    salts = {key: seen_of(sealed, CHAT, sealed.chat(), key).json["cache_salt"] for key in SHARING}
    assert salts == {KEY: MINE, LEFT: "group-both", RIGHT: "group-both"}


SHARING = (KEY, LEFT, RIGHT)


@pytest.mark.parametrize(
    "own",
    [
        '"cache_salt": "group-both"',
        '"cache\\u005fsalt": "group-both"',
        '"cache_salt": "a", "cache_salt": "group-both", "x": {"cache_salt": "b"}',
        '"cache_salt": null',
        '"cache_salt": {"a": "}"}',
        '"x": "}"',
        '"x": "\\\\"',
    ],
)
def test_a_client_s_own_salt_does_not_count(sealed: Bench, own: str) -> None:
    for body in (f'{{{own}, "model": "chat"}}', f'{{"model": "chat", {own}}}'):
        assert seen_of(sealed, CHAT, body.encode()).json["cache_salt"] == MINE


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "chat", "x": "}',
        b'{"model": "chat", "x": {}',
        b'{"model": "chat", "x": [}',
        b'{"model": "chat", "x": "\\}',
        b'{"model": "chat"} }',
        b'{"model": "chat",}',
        '{"model": "chat"}'.encode("utf-16"),
    ],
)
def test_the_salt_makes_no_sense_of_what_had_none(sealed: Bench, body: bytes) -> None:
    error = expect_error(sealed.post(CHAT, body), 400)
    assert error["code"] in ("invalid_json", "model_required")


def test_megabytes_are_sealed_too(sealed: Bench) -> None:
    body = sealed.chat("x" * (8 * 2**20))
    assert seen_of(sealed, CHAT, body).json == {**body, "cache_salt": MINE}


def test_answers_still_stream(sealed: Bench) -> None:
    body = sealed.chat(stream=True, stub={"hold": True})
    with sealed.client.stream("POST", CHAT, json=body, headers=sealed.headers()) as answer:
        lines = filter(None, answer.iter_lines())
        assert next(lines).startswith("data: ")  # while the engine still holds the rest
        sealed.release()
        assert list(lines)[-1] == "data: [DONE]"


def test_a_dead_picker_unseals_nothing(sealed: Bench) -> None:
    picker = sealed.picker_process
    assert picker is not None
    picker.kill()
    try:
        for number in range(5):
            assert seen_of(sealed, CHAT, sealed.chat(f"{number}")).json["cache_salt"] == MINE
    finally:
        picker.start()
        until(lambda: is_ready(sealed.gateway))


def failing_script(config: Json) -> None:
    """As a bug in it would: Envoy notes the error and lets the request pass."""
    source = broken.filter_named(config, "seal")["default_source_code"]
    source["inline_string"] = "function envoy_on_request(handle) error('no') end"


def forgotten_tenant(config: Json) -> None:
    source = broken.filter_named(config, "seal")["default_source_code"]
    source["inline_string"] = source["inline_string"].replace('["acme"]', '["another"]')


@pytest.mark.parametrize("picker", [True, False], ids=["picker", "plain"])
@pytest.mark.parametrize("mutation", [broken.drop_filter("seal"), failing_script, forgotten_tenant])
def test_without_its_salt_no_request_reaches_an_engine(
    engines: Engines, mutation: Mutation, picker: bool, tmp_path: Path
) -> None:
    with running_gateway(engines, tmp_path, picker=picker, sealed=True, broken=mutation) as bench:
        for path, body in conformance.endpoints(bench).items():
            request_id = fresh_id()
            answer = bench.post(path, {**body, "cache_salt": MINE}, {"x-request-id": request_id})
            expect_error(answer, 503, "Try again")
            assert answer.headers["retry-after"]
            assert not bench.served(request_id)
        assert bench.get("/v1/models").status_code == 200


def hosted_elsewhere(config: Json) -> None:
    """The alias leads to an engine that is not ours."""
    for route in broken.routes(config):
        if aliases := route.get("metadata", {}).get("filter_metadata", {}).get("aliases"):
            aliases["unsealed"] = True


def test_engines_of_others_get_no_salt(engines: Engines, tmp_path: Path) -> None:
    with running_gateway(engines, tmp_path, sealed=True, broken=hosted_elsewhere) as bench:
        body = bench.chat()
        assert seen_of(bench, CHAT, {**body, "model": "gpt-4o"}).json == body
        streamed = seen_of(bench, CHAT, {**body, "model": "gpt-4o", "stream": True}).json
        assert streamed == {**body, "stream": True, "stream_options": {"include_usage": True}}
        assert seen_of(bench, CHAT, body).json == {**body, "cache_salt": MINE}


def test_an_unsealed_gateway_leaves_salts_alone(with_picker: Bench) -> None:
    assert "cache_salt" not in seen_of(with_picker, CHAT, with_picker.chat()).json
    own = with_picker.chat(cache_salt="mine")
    assert seen_of(with_picker, CHAT, own).json == own


@pytest.mark.parametrize("case", conformance.suite.cases, ids=lambda case: case.name)
def test_a_sealed_gateway_is_a_gateway(case: Case[Door], sealed: Bench) -> None:
    case.run(sealed)


def test_the_salt_is_one_that_vllm_and_lmcache_take(sealed: Bench) -> None:
    salt = json.loads(seen_of(sealed, CHAT, sealed.chat(), LEFT).body)["cache_salt"]
    assert len(salt) <= 128 and not set(salt) & set("@/\\\0")
