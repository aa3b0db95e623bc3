"""A new pool behind an old name: the real Envoy, with and without the picker, before stub engines."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from ports import free_ports

from freehold.gateway.in_pod import gateway_from, settings_of
from freehold.gateway.model import ApiKey, Gateway, Pool, Rollout, Worker

from .door import Door, expect_error
from .running import KEY, started, until
from .stub_engine import StubEngine

ONLY_OLD = "key-of-only-old"
PERCENT = 5.0


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, StubEngine]]:
    found = {
        "old": StubEngine("chat-0", ("chat", "lora")),
        "new": StubEngine("chat-next-0", ("chat-next",)),
    }
    for engine in found.values():
        engine.start()
    yield found
    for engine in found.values():
        engine.stop()


def gateway_for(engines: dict[str, StubEngine], percent: float, *, picker: bool) -> Gateway:
    door, admin, grpc, http = free_ports(4)

    def workers(which: str) -> tuple[Worker, ...]:
        return (Worker(engines[which].name, "127.0.0.1", engines[which].port),)

    old = Pool("chat", "generate", ("chat", "lora"), workers("old"), aliases={"gpt-4o": "chat"})
    new = Pool("chat-next", "generate", ("chat-next",), workers("new"))
    return Gateway(
        port=door,
        admin_port=admin,
        pools=(old, replace(new, rollout=Rollout("chat", percent))),
        keys=(ApiKey(KEY), ApiKey(ONLY_OLD, "old", models=("chat", "gpt-4o"))),
        picker=("127.0.0.1", grpc) if picker else None,
        picker_http=("127.0.0.1", http) if picker else None,
    )


@contextmanager
def running(gateway: Gateway, folder: Path) -> Iterator[Door]:
    with started(gateway, folder):
        yield Door(f"http://127.0.0.1:{gateway.port}", KEY)


@pytest.fixture(scope="module", params=[True, False], ids=["picker", "plain"])
def door(
    request: pytest.FixtureRequest,
    engines: dict[str, StubEngine],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Door]:
    gateway = gateway_for(engines, PERCENT, picker=request.param)
    with running(gateway, tmp_path_factory.mktemp("rollout")) as found:
        yield found


def split(door: Door, sessions: list[str | None], model: str = "chat") -> list[str]:
    """Which pool each request was answered by, over a few connections at once."""
    body = json.dumps(door.chat(model=model))
    host = door.base_url.removeprefix("http://")

    def ask(some: list[str | None]) -> list[str]:
        connection, pools = HTTPConnection(host, timeout=30), []
        for session in some:
            headers = door.headers({"content-type": "application/json"})
            if session:
                headers["x-session-id"] = session
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer[:300]
            pools.append(response.headers["x-freehold-pool"])
            # Each engine knows its own name alone, so the body was rewritten.
            assert json.loads(answer)["model"] == pools[-1]
        return pools

    parts = [sessions[i::8] for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answered = list(threads.map(ask, parts))
    in_order: list[str] = [""] * len(sessions)
    for i, pools in enumerate(answered):
        in_order[i::8] = pools
    return in_order


def within_bounds(count: int, of: int, percent: float = PERCENT) -> bool:
    """Five standard deviations of a binomial: one run in two million falls outside by chance."""
    share = percent / 100
    return abs(count - of * share) <= 5 * math.sqrt(of * share * (1 - share))


def test_ten_thousand_requests_are_split_as_said(door: Door) -> None:
    pools = Counter(split(door, [None] * 10_000))
    assert set(pools) == {"chat", "chat-next"}
    assert within_bounds(pools["chat-next"], 10_000), pools


@pytest.mark.parametrize("form", ["{}", "user-{:05d}", "{:032x}"])
def test_sessions_are_split_too_and_none_jumps(door: Door, form: str) -> None:
    sessions: list[str | None] = [form.format(n) for n in range(1_000)]
    first = split(door, sessions)
    assert within_bounds(first.count("chat-next"), len(sessions)), first.count("chat-next")
    assert split(door, sessions) == first


def test_an_alias_is_split_as_the_name_and_an_adapter_stays(door: Door) -> None:
    def answered(model: str) -> set[str | None]:
        names = [f"s{n}" for n in range(200)]
        return {
            door.post(
                "/v1/chat/completions", door.chat(model=model), {"x-session-id": name}
            ).headers["x-freehold-pool"]
            for name in names
        }

    assert answered("gpt-4o") == {"chat", "chat-next"}
    assert answered("lora") == {"chat"}


def test_the_new_pool_answers_to_its_own_name(door: Door) -> None:
    assert set(split(door, [None] * 50, model="chat-next")) == {"chat-next"}
    models = [model["id"] for model in door.get("/v1/models").json()["data"]]
    assert models == ["chat", "lora", "gpt-4o", "chat-next"]


def test_a_pin_is_stronger_than_the_lot(door: Door) -> None:
    for n in range(60):
        headers = {"x-freehold-worker": "chat-0", "x-session-id": f"s{n}"}
        answer = door.post("/v1/chat/completions", door.chat(), headers)
        assert answer.headers["x-freehold-pool"] == "chat"


def test_a_client_cannot_draw_its_own_lot(door: Door) -> None:
    pools = Counter(
        door.post("/v1/chat/completions", door.chat(), {"x-gateway-lot": "0"}).headers[
            "x-freehold-pool"
        ]
        for _ in range(200)
    )
    assert pools["chat"] > 100


def test_a_key_for_the_old_name_is_enough_for_the_share_and_for_nothing_else(door: Door) -> None:
    narrow = replace(door, key=ONLY_OLD)
    assert "chat-next" in split(narrow, [None] * 400)
    answer = narrow.post("/v1/chat/completions", narrow.chat(model="chat-next"))
    expect_error(answer, 404, "not for this key")


@pytest.mark.parametrize(("percent", "pools"), [(0, {"chat"}), (100, {"chat-next"})])
@pytest.mark.parametrize("picker", [True, False])
def test_nothing_and_all(
    engines: dict[str, StubEngine], tmp_path: Path, percent: float, pools: set[str], picker: bool
) -> None:
    with running(gateway_for(engines, percent, picker=picker), tmp_path) as door:
        assert set(split(door, [None] * 200)) == pools


def test_a_dead_newcomer_costs_nobody_an_answer(
    engines: dict[str, StubEngine], tmp_path: Path
) -> None:
    """The picker takes its lots back; without a picker its share is told to come again."""
    gone = StubEngine("chat-next-0", ("chat-next",))
    gone.start()
    gone.stop()
    dead = {**engines, "new": gone}

    def all_by(door: Door, pool: str) -> bool:
        answers = [door.post("/v1/chat/completions", door.chat()) for _ in range(20)]
        return {(a.status_code, a.headers.get("x-freehold-pool")) for a in answers} == {(200, pool)}

    with running(gateway_for(dead, 100, picker=True), tmp_path) as door:
        until(lambda: all_by(door, "chat"))
        gone.start()
        until(lambda: all_by(door, "chat-next"))
        gone.stop()
    with running(gateway_for(dead, 100, picker=False), tmp_path) as door:
        answer = door.post("/v1/chat/completions", door.chat())
        expect_error(answer, 503, "Try again shortly")


def test_a_pod_gets_the_same_gateway(engines: dict[str, StubEngine]) -> None:
    gateway = gateway_for(engines, PERCENT, picker=True)
    settings = json.loads(json.dumps(settings_of(gateway)))
    assert gateway_from(settings, {"default": KEY, "old": ONLY_OLD}) == gateway
