"""Each rule of this folder fails before a gateway that lacks what it rests on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.gateway.picker.probe import ask

from .. import mutations as broken
from ..cases import Json, Mutation
from ..running import Bench, running_gateway
from . import test_bodies, test_http1, test_http2
from .attacked import strict_engines, unharmed
from .strict_engine import StrictEngine

pytestmark = pytest.mark.long
Attack = Callable[[Bench], None]


def _clients_host(config: Json) -> None:
    for route in broken.routes(config):
        route.get("route", {}).pop("host_rewrite_literal", None)


def _orders_pass(config: Json) -> None:
    host = broken.manager(config)["route_config"]["virtual_hosts"][0]
    host["request_headers_to_remove"] = ["authorization"]


def _refusals_wait_for_the_picker(config: Json) -> None:
    for http_filter in broken.filters(config):
        if http_filter["name"] == "envoy.filters.http.ext_proc":
            inner = http_filter["typed_config"]["extension_config"]["typed_config"]
            http_filter["typed_config"] = inner


def _no_salt_is_missed(config: Json) -> None:
    """Neither sets the salt nor asks for it."""
    broken.drop_filter("seal")(config)
    broken.drop_routes("unsealed", broken.refusing("service_unavailable"))(config)


def _own_words(config: Json) -> None:
    del broken.manager(config)["local_reply_config"]


def _http1(name: str) -> Attack:
    served = name in test_http1.SERVED
    test = test_http1.test_it_arrives_once_and_clean if served else test_http1.test_it_is_refused
    return lambda bench: test(bench, name)


def _http2(name: str) -> Attack:
    return lambda bench: test_http2.test_it_is_refused(bench, name)


def _body(name: str) -> Attack:
    return lambda bench: test_bodies.test_it_is_served(bench, name)


def _stream(bench: Bench) -> None:
    test_bodies.test_every_stream_is_counted(bench, b"true", b"")


CAUGHT: list[tuple[Mutation, Attack]] = [
    (broken.everything_to_an_engine, _http1("another host's metrics")),
    (broken.everything_to_an_engine, _http2("two slashes")),
    (broken.clean_paths, _http1("two slashes")),
    (broken.clean_paths, _http2("two slashes")),
    (broken.key_passes, _http1("as it should be")),
    (broken.internal_headers_pass, _http1("forged headers")),
    (_clients_host, _http1("an absolute target")),
    (_orders_pass, _http1("orders to the engine")),
    (_refusals_wait_for_the_picker, _http1("a header of 70 KB")),
    (broken.plain_error(501), _http1("almost chunked")),
    (_own_words, _http1("a null byte")),
    (broken.drop_filter("seal"), _body("an alias")),
    (_no_salt_is_missed, _body("a salt of one's own")),
    (broken.drop_filter("aliases"), _body("an alias")),
    (broken.drop_filter("ask for usage"), _stream),
]


@pytest.mark.parametrize(("mutation", "attack"), CAUGHT, ids=lambda part: part.__name__)
def test_it_is_caught(mutation: Mutation, attack: Attack, tmp_path: Path) -> None:
    with (
        strict_engines(sealed=True) as engines,
        running_gateway(engines, tmp_path, picker=True, sealed=True, broken=mutation) as bench,
        pytest.raises(AssertionError),
    ):
        attack(bench)
        unharmed(bench)


def test_the_pickers_own_questions_are_no_clients_requests() -> None:
    """On a slow machine it asks in the middle of any case."""
    with strict_engines(sealed=True) as engines:
        took = asyncio.run(ask(f"127.0.0.1:{engines.embed.port}", "embed", "embed"))
        assert took is not None
        assert took < 5
        assert not engines.embed.seen
        assert isinstance(engines.embed, StrictEngine)
        assert not engines.embed.faults
