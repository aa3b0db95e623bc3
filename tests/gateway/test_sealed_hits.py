"""Who finds whose prompt in the cache: the real gateway and picker before simulated engines, which keep
a prefix cache by `cache_salt` as vLLM does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from ports import free_ports
from simulator.conftest import Fleet

from freehold.gateway.model import ApiKey, Gateway, Pool, Worker

from .door import fresh_id
from .running import started

A, B, FRIEND, OTHER_FRIEND = "key-of-a", "key-of-b", "key-of-friend", "key-of-other-friend"
KEYS = (
    ApiKey(A, "a"),
    ApiKey(B, "b"),
    ApiKey(FRIEND, "friend", cache_group="friends"),
    ApiKey(OTHER_FRIEND, "other-friend", cache_group="friends"),
)


class Served:
    """A gateway before two simulated workers."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=30)

    def found(self, key: str, document: str, **more: object) -> float:
        """The share of the prompt's tokens that the engine had cached."""
        messages = [
            {"role": "system", "content": document},
            {"role": "user", "content": "What does it say?"},
        ]
        body = {"model": "chat", "messages": messages, "max_tokens": 2, **more}
        headers = {"authorization": f"Bearer {key}"}
        answer = self.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        usage = answer.json()["usage"]
        details = usage["prompt_tokens_details"] or {"cached_tokens": 0}
        return details["cached_tokens"] / usage["prompt_tokens"]

    def matched_chunks(self) -> float:
        """What the picker took for cached so far."""
        host, port = self.gateway.picker_health() or ("", 0)
        text = httpx.get(f"http://{host}:{port}/metrics").text
        name = "freehold_picker_matched_chunks_total{"
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@contextmanager
def serving(fleet: Fleet, folder: Path, *, sealed: bool) -> Iterator[Served]:
    engines = [fleet.start("--enable-prompt-tokens-details") for _ in range(2)]
    door, admin, grpc, http = free_ports(4)
    workers = [Worker(f"chat-{i}", "127.0.0.1", e.replica.port) for i, e in enumerate(engines)]
    gateway = Gateway(
        port=door,
        admin_port=admin,
        pools=(Pool("chat", "generate", ("chat",), tuple(workers)),),
        keys=KEYS,
        picker=("127.0.0.1", grpc),
        picker_http=("127.0.0.1", http),
        sealed=sealed,
    )
    with started(gateway, folder):
        yield Served(gateway)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def document() -> str:
    return f"{fresh_id()} says: " + "the quick brown fox jumps over the lazy dog. " * 200


def test_a_document_is_found_by_its_tenant_and_nobody_else(fleet: Fleet, tmp_path: Path) -> None:
    with serving(fleet, tmp_path, sealed=True) as served:
        text = document()
        assert served.found(A, text) == 0
        assert served.found(A, text) > 0.95
        matched = served.matched_chunks()
        assert matched > 0
        assert served.found(B, text) == 0
        assert served.matched_chunks() == matched, "the picker took B's prompt for A's"
        assert served.found(B, text) > 0.95, "B's own, read just before"
        assert served.found(FRIEND, text) == 0
        assert served.found(OTHER_FRIEND, text) > 0.95


def test_a_stolen_salt_opens_nothing(fleet: Fleet, tmp_path: Path) -> None:
    with serving(fleet, tmp_path, sealed=True) as served:
        text = document()
        served.found(A, text)
        assert served.found(B, text, cache_salt="tenant-a") == 0


def test_unsealed_tenants_find_each_other_s(fleet: Fleet, tmp_path: Path) -> None:
    """What sealing is for, and that the tests above would see it."""
    with serving(fleet, tmp_path, sealed=False) as served:
        text = document()
        assert served.found(A, text) == 0
        assert served.found(B, text) > 0.95
