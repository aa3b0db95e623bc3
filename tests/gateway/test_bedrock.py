"""A pool that Bedrock serves, with the real Envoy: what reaches AWS is signed, and nothing of ours."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import free_ports

from freehold.gateway import envoy, launch
from freehold.gateway.in_pod import gateway_from, settings_of
from freehold.gateway.model import ApiKey, Gateway, Hosted, Pool

from .bedrock_stub import KEY_ID, PATH, REGION, SECRET, TOKEN, BedrockStub, IdentityAgent
from .running import is_ready, until

MODEL = "openai.gpt-oss-120b-1:0"
KEY = "sk-of-acme"
RIGHT = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": TOKEN,
}


def gateway_for(stub: BedrockStub, **changes: Any) -> Gateway:
    door, admin = free_ports(2)
    hosted = Hosted(MODEL, REGION, "127.0.0.1", stub.trusted_ca, stub.port)
    pool = Pool("chat", "generate", ("chat",), aliases={"gpt-4o": "chat"}, hosted=hosted)
    key = ApiKey(KEY, "acme")
    return Gateway(door, admin, (pool,), (key,), **changes)


@contextmanager
def running(gateway: Gateway, folder: Path, env: Mapping[str, str]) -> Iterator[httpx.Client]:
    (folder / "envoy.json").write_text(json.dumps(envoy.bootstrap(gateway)))
    argv = launch.envoy_argv(folder / "envoy.json", concurrency=1)
    with (folder / "envoy.log").open("wb") as output:
        process = subprocess.Popen(
            argv, stdout=output, stderr=output, env={**_without_aws(), **env}
        )
    try:
        until(lambda: is_ready(gateway))
        with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20) as client:
            client.headers["authorization"] = f"Bearer {KEY}"
            yield client
    finally:
        process.kill()
        process.wait()


def _without_aws() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def chat(model: str = "chat", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[BedrockStub]:
    with BedrockStub(tmp_path) as stub:
        yield stub


@pytest.fixture
def client(stub: BedrockStub, tmp_path: Path) -> Iterator[httpx.Client]:
    with running(gateway_for(stub), tmp_path, RIGHT) as client:
        yield client


@pytest.mark.parametrize("name", ["chat", "gpt-4o"])
def test_a_request_arrives_signed_under_bedrock_s_own_name(
    client: httpx.Client, stub: BedrockStub, name: str
) -> None:
    answer = client.post("/v1/chat/completions", json=chat(name))
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there"
    (arrived,) = stub.arrived
    assert arrived.path == PATH and arrived.headers["host"] == f"127.0.0.1:{stub.port}"
    assert json.loads(arrived.body) == chat(MODEL)


def test_a_streamed_answer_comes_through_as_it_is(client: httpx.Client, stub: BedrockStub) -> None:
    answer = client.post("/v1/chat/completions", json=chat(stream=True))
    assert answer.headers["content-type"] == "text/event-stream"
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    said = [json.loads(event)["choices"][0]["delta"]["content"] for event in events[:-1]]
    assert said == ["Hello", " there"] and events[-1] == "[DONE]"
    assert [arrived.problem for arrived in stub.arrived] == [None]


def test_nothing_that_a_client_sends_to_us_goes_to_bedrock(
    client: httpx.Client, stub: BedrockStub
) -> None:
    sent = {
        "x-session-id": "mine",
        "x-freehold-worker": "chat-0",
        "cookie": "a=b",
        "x-amz-security-token": "forged",
        "x-amz-date": "20200101T000000Z",
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    }
    assert client.post("/v1/chat/completions", json=chat(), headers=sent).status_code == 200
    headers = stub.arrived[0].headers
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert headers["x-amz-security-token"] == TOKEN and headers["x-amz-date"] > "2026"
    text = json.dumps(headers)
    assert KEY not in text and "forged" not in text
    assert not {"x-session-id", "x-freehold-worker", "cookie", "x-forwarded-for"} & headers.keys()
    assert not [name for name in headers if name.startswith(("x-gateway-", "x-envoy-"))]


def test_a_large_body_is_signed_whole(client: httpx.Client, stub: BedrockStub) -> None:
    body = chat(user="x" * 3_000_000)
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert len(stub.arrived[0].body) > 3_000_000


def test_a_wrong_secret_is_bedrock_s_refusal_and_is_not_tried_again(
    stub: BedrockStub, tmp_path: Path
) -> None:
    wrong = {**RIGHT, "AWS_SECRET_ACCESS_KEY": "another"}
    with running(gateway_for(stub), tmp_path, wrong) as client:
        answer = client.post("/v1/chat/completions", json=chat())
    assert answer.status_code == 403 and "does not match" in answer.text
    assert len(stub.arrived) == 1


def test_without_credentials_nothing_is_signed_and_nobody_waits(
    stub: BedrockStub, tmp_path: Path
) -> None:
    with running(gateway_for(stub), tmp_path, {"HOME": str(tmp_path)}) as client:
        answer = client.post("/v1/chat/completions", json=chat(), timeout=5)
    assert answer.status_code == 403 and "Missing Authentication Token" in answer.text
    assert "authorization" not in stub.arrived[0].headers


def test_credentials_come_from_the_user_s_own_file_too(stub: BedrockStub, tmp_path: Path) -> None:
    """The named profile of a file in AWS's form."""
    file = tmp_path / "credentials"
    file.write_text(
        f"[work]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
        f"aws_session_token = {TOKEN}\n"
    )
    env = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "work"}
    with running(gateway_for(stub), tmp_path, env) as client:
        assert client.post("/v1/chat/completions", json=chat()).status_code == 200


def test_in_a_pod_they_come_from_pod_identity_s_agent(stub: BedrockStub, tmp_path: Path) -> None:
    """The agent gives them for the token that Kubernetes puts into the pod, and for nothing else."""
    token = tmp_path / "token"
    token.write_text("of-the-pod")
    gateway = gateway_for(stub)
    (pool,) = gateway.pools
    assert pool.hosted
    hosted = dataclasses.replace(pool.hosted, credentials="pod_identity")
    gateway = dataclasses.replace(gateway, pools=(dataclasses.replace(pool, hosted=hosted),))
    with IdentityAgent("of-the-pod") as agent:
        env = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{agent.port}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        with running(gateway, tmp_path, env) as client:
            until(lambda: client.post("/v1/chat/completions", json=chat()).status_code == 200)
    assert agent.asked == ["/v1/credentials"]


def test_a_full_bedrock_is_asked_once_more_with_a_signature_of_its_own(
    client: httpx.Client, stub: BedrockStub
) -> None:
    stub.busy = 1
    assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    assert [arrived.problem for arrived in stub.arrived] == [None, None]


def test_an_impostor_gets_nothing(stub: BedrockStub, tmp_path: Path) -> None:
    """A server whose certificate no trusted authority signed: no request, no signature."""
    other = tmp_path / "other"
    other.mkdir()
    with BedrockStub(other) as impostor:
        gateway = gateway_for(stub)
        hosted = Hosted(MODEL, REGION, "127.0.0.1", stub.trusted_ca, impostor.port)
        pool = Pool("chat", "generate", ("chat",), hosted=hosted)
        gateway = Gateway(gateway.port, gateway.admin_port, (pool,), gateway.keys)
        with running(gateway, tmp_path, RIGHT) as client:
            answer = client.post("/v1/chat/completions", json=chat())
        assert answer.status_code == 503 and impostor.arrived == []


def test_keys_and_paths_are_refused_before_anything_is_asked(
    client: httpx.Client, stub: BedrockStub
) -> None:
    unknown = client.post(
        "/v1/chat/completions", json=chat(), headers={"authorization": "Bearer x"}
    )
    assert unknown.status_code == 401
    wrong = client.post("/v1/completions", json={"model": "chat", "prompt": "Hello"})
    assert wrong.status_code == 400 and "/v1/chat/completions" in wrong.text
    assert client.post("/v1/chat/completions", json=chat("other")).status_code == 404
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["chat", "gpt-4o"]
    assert stub.arrived == []


def test_no_credential_is_in_the_configuration(stub: BedrockStub) -> None:
    text = json.dumps(envoy.bootstrap(gateway_for(stub)))
    assert not any(value in text for value in RIGHT.values())


def test_in_a_pod_the_settings_say_the_same(stub: BedrockStub) -> None:
    gateway = gateway_for(stub)
    settings = json.loads(json.dumps(settings_of(gateway)))
    assert gateway_from(settings, {"acme": KEY}) == gateway
