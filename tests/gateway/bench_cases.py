"""What needs stub engines to be seen: who got a request, with which headers, and what happens to it when
engines are busy, die or hang."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from . import mutations as broken
from .cases import Suite
from .door import Json, expect_error, fresh_id
from .running import KEY, LIMIT_PER_MINUTE, LIMITED, NARROW, Bench, PickerProcess, is_ready, until
from .stub_engine import StubEngine

suite: Suite[Bench] = Suite()
case = suite.case
CHAT = "/v1/chat/completions"


# --- Which worker -------------------------------------------------------------------------------------


@case(broken.drop_routes("pin", broken.matching_header("x-freehold-worker")))
def a_worker_can_be_pinned(bench: Bench) -> None:
    for model in ("chat", "gpt-4o", "by-load"):
        for engine in bench.engines.generate:
            pin = {"x-freehold-worker": engine.name}
            answer = bench.post(CHAT, bench.chat(model=model), pin)
            assert bench.worker_of(answer) == engine.name
    answer = bench.post(CHAT, bench.chat(), {"x-freehold-worker": "chat-9"})
    expect_error(answer, 404, "chat-0, chat-1, chat-2, chat-3")
    answer = bench.post(CHAT, bench.chat(), {"x-freehold-worker": "embed-0"})
    expect_error(answer, 404, "chat-0")


@case(broken.internal_headers_pass, picker=False)
def no_other_header_routes(bench: Bench) -> None:
    """Forged internal headers change neither the worker nor the pool nor the retries."""
    target = bench.engines.generate[0]
    workers = set()
    for number in range(24):
        forged = {
            "x-gateway-destination-endpoint": f"127.0.0.1:{target.port}",
            "X-Gateway-Model": "embed",
            "x-gateway-prefix": "1",
            "x-envoy-upstream-rq-timeout-ms": "1",
            "x-envoy-original-path": "/metrics",
        }
        answer = bench.post(CHAT, bench.chat(f"{number}"), forged)
        workers.add(bench.worker_of(answer))
        _, seen = bench.sole(answer.headers["x-request-id"])
        assert seen.path == CHAT
        assert "x-gateway-model" not in seen.headers
    assert len(workers) > 1


@case(broken.no_hash, broken.always_random, picker=False)
def a_session_stays_on_its_worker(bench: Bench) -> None:
    for model in ("by-session", "chat"):
        for session in ("a", "b", "c", "d"):
            answers = [
                bench.post(CHAT, bench.chat(f"{number}", model=model), {"x-session-id": session})
                for number in range(6)
            ]
            assert len({bench.worker_of(answer) for answer in answers}) == 1


@case(broken.always_random, picker=True)
def a_session_stays_on_its_worker_by_the_picker(bench: Bench) -> None:
    a_session_stays_on_its_worker(bench)


@case(broken.always_random)
def a_conversation_stays_on_its_worker(bench: Bench) -> None:
    """Twelve at once, six turns each, all under one system prompt."""
    system = {"role": "system", "content": f"{fresh_id()} You are helpful. " * 40}
    talks: list[list[Json]] = [
        [system, {"role": "user", "content": f"{number} {fresh_id()} " * 40}]
        for number in range(12)
    ]
    stays = 0
    last: dict[int, str] = {}
    for turn in range(6):
        for number, messages in enumerate(talks):
            worker = bench.worker_of(
                bench.post(CHAT, {"model": "chat", "messages": messages, "max_tokens": 4})
            )
            stays += last.get(number) == worker
            last[number] = worker
            messages.append({"role": "assistant", "content": f"answer {turn} " * 30})
            messages.append({"role": "user", "content": f"question {turn} " * 30})
    assert stays == 12 * 5


@case(broken.unbounded_hash, picker=False)
def one_hot_prompt_spreads(bench: Bench) -> None:
    """Requests that begin alike: no worker has more than 1.25 times the mean, plus one. Below 80 of
    them three workers may hold them all within that."""
    hot = "the same long system prompt " * 100
    with held(bench, 80, lambda number: bench.chat(f"{hot} {number}")) as counts:
        assert max(counts.values()) <= 1.25 * 80 / 4 + 1, counts
        assert len(counts) == 4, counts


@case(broken.unbounded_hash_alone, picker=True)
def one_hot_prompt_spreads_by_the_picker(bench: Bench) -> None:
    system = {"role": "system", "content": f"{fresh_id()} the same system prompt " * 100}
    before = bench.envoy_stat("ext_proc.message_timeouts")
    with held(
        bench, 80, lambda n: bench.chat(messages=[system, {"role": "user", "content": f"{n}"}])
    ) as counts:
        assert max(counts.values()) <= 1.25 * 80 / 4 + 1, counts
        assert len(counts) == 4, counts
        # On a busy machine Envoy may not have waited for some.
        unasked = bench.envoy_stat("ext_proc.message_timeouts") - before
        in_flight = bench.picker_metric("freehold_picker_in_flight", pool="chat")
        assert in_flight == 80 - unasked
    until(lambda: bench.picker_metric("freehold_picker_in_flight", pool="chat") == 0)


@case(broken.always_random, picker=True)
def a_document_in_the_system_message_is_found_again(bench: Bench) -> None:
    documents = [f"document {fresh_id()} " * 60 for _ in range(6)]
    homes: dict[int, set[str]] = {}
    for question in range(5):
        for number, document in enumerate(documents):
            messages = [
                {"role": "system", "content": f"Answer from the document. {document}"},
                {"role": "user", "content": f"question {question}?"},
            ]
            answer = bench.post(CHAT, bench.chat(messages=messages))
            homes.setdefault(number, set()).add(bench.worker_of(answer))
    assert all(len(home) == 1 for home in homes.values()), homes
    assert len(set.union(*homes.values())) > 1, "all documents on one worker"


@case(broken.always_random)
def policies_are_what_they_say(bench: Bench) -> None:
    turns = Counter(
        bench.worker_of(bench.post(CHAT, bench.chat("same", model="by-turn"))) for _ in range(8)
    )
    assert set(turns.values()) == {2}, turns
    with held(bench, 16, lambda _: bench.chat("same", model="by-load")) as counts:
        assert max(counts.values()) <= 6, counts  # of the better of two choices, four would be even


# --- What reaches an engine ---------------------------------------------------------------------------


@case(broken.key_passes, broken.new_request_ids)
def the_engine_gets_the_request_as_it_was_without_the_key(bench: Bench) -> None:
    sent = json.dumps(bench.chat(seed=2**60 + 1, z=[1.0, None, "é"])).encode()
    answer = bench.post(CHAT, sent, {"x-request-id": (mine := fresh_id())})
    assert answer.status_code == 200
    _, seen = bench.sole(mine)
    assert seen.body == sent
    assert seen.headers["x-request-id"] == mine
    assert "authorization" not in seen.headers
    assert KEY not in str(seen.headers)


@case(broken.drop_filter("aliases"))
def an_alias_is_rewritten_and_nothing_else(bench: Bench) -> None:
    body = (
        '{"seed": 1152921504606846977, "messages": [{"role": "user", "model": "gpt-4o", '
        '"content": "a \\"model\\": \\"gpt-4o\\" {[ é \\\\"}], "model" : "gpt-4o", "z": 1.0}'
    )
    answer = bench.post(CHAT, body.encode())
    assert answer.status_code == 200, answer.text
    _, seen = bench.sole(answer.headers["x-request-id"])
    assert seen.body.decode() == body.replace('"model" : "gpt-4o"', '"model" : "chat"')


# --- Tenants ------------------------------------------------------------------------------------------


@case(broken.no_limits, broken.limit_for_all, broken.plain_error(429))
def a_tenant_has_its_own_limit(bench: Bench) -> None:
    """Half of the tenant's limit, since this gateway is one of two."""
    bucket = bench.post(CHAT, bench.chat(), {"authorization": f"Bearer {LIMITED}"})
    answers = [
        bench.client.post(CHAT, json=bench.chat(), headers={"authorization": f"Bearer {LIMITED}"})
        for _ in range(LIMIT_PER_MINUTE + 2)
    ]
    statuses = [bucket.status_code, *(answer.status_code for answer in answers)]
    assert statuses.count(429) >= 2, statuses
    assert statuses.count(200) <= LIMIT_PER_MINUTE + 1, statuses
    refused = next(answer for answer in answers if answer.status_code == 429)
    expect_error(refused, 429, "requests a minute")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    others = [bench.post(CHAT, bench.chat()).status_code for _ in range(LIMIT_PER_MINUTE + 2)]
    assert set(others) == {200}


@case(broken.drop_routes("narrow", broken.refusing("model_not_allowed")))
def a_tenant_sees_only_its_models(bench: Bench) -> None:
    narrow = {"authorization": f"Bearer {NARROW}"}
    answer = bench.post(CHAT, bench.chat(), narrow)
    expect_error(answer, 404, "this key may use: embed")
    assert not bench.served(answer.headers["x-request-id"])
    answer = bench.post("/v1/embeddings", {"model": "embed", "input": "x"}, narrow)
    assert answer.status_code == 200


@case(broken.chatty_log, broken.log_with_query)
def the_access_log_tells_who_and_where_but_no_prompt_and_no_key(bench: Bench) -> None:
    mine, secret = fresh_id(), "a-very-private-prompt"
    answer = bench.post(f"{CHAT}?q={secret}", bench.chat(secret), {"x-request-id": mine})
    line = bench.access_log(mine)
    assert line["tenant"] == "acme"
    assert (line["model"], line["pool"], line["status"]) == ("chat", "chat", 200)
    assert line["worker"] == bench.worker_of(answer)
    assert line["path"] == CHAT
    assert secret not in str(line)
    assert KEY not in str(line)


@case(broken.open_admin)
def the_admin_port_tells_no_key_and_takes_no_order(bench: Bench) -> None:
    admin = f"http://127.0.0.1:{bench.gateway.admin_port}"
    for path in ("/config_dump", "/clusters", "/listeners", "/server_info", "/runtime", "/"):
        assert httpx.get(admin + path).status_code == 403, path
    for path in ("/logging?level=warning", "/healthcheck/ok", "/drain_listeners", "/cpuprofiler"):
        assert httpx.post(admin + path).status_code == 403, path
    assert httpx.get(f"{admin}/ready").status_code == 200
    assert "envoy_http_downstream_rq" in httpx.get(f"{admin}/stats/prometheus").text


# --- Streams and faults -------------------------------------------------------------------------------


@case(broken.buffered_answers)
def a_stream_is_passed_on_as_it_comes(bench: Bench) -> None:
    with streaming(bench) as (answer, events, _):
        assert answer.status_code == 200
        assert "by " in next(events)  # the engine holds back the rest until it is released
        bench.release()
        assert list(events)[-1] == "data: [DONE]"


@case(broken.short_timeout)
def an_answer_may_take_its_time(bench: Bench) -> None:
    """Longer than the broken configuration allows; without it there is no limit to show."""
    with ThreadPoolExecutor(1) as pool:
        request_id = fresh_id()
        answer = pool.submit(bench.post, CHAT, _held_chat(bench), {"x-request-id": request_id})
        until(lambda: bench.served(request_id))
        threading.Event().wait(0.7)
        bench.release()
        assert answer.result().status_code == 200


@case(broken.shadowed)
def a_client_that_goes_away_frees_its_worker(bench: Bench) -> None:
    for stream in (True, False):
        request_id = fresh_id()
        body = _held_chat(bench, stream=stream)
        client = httpx.Client(timeout=httpx.Timeout(60, read=0.5))
        request = client.build_request(
            "POST",
            bench.base_url + CHAT,
            json=body,
            headers=bench.headers({"x-request-id": request_id}),
        )
        if stream:
            client.send(request, stream=True).close()
        else:
            with ThreadPoolExecutor(1) as pool:  # gives up after half a second
                pool.submit(lambda c=client, r=request: c.send(r)).exception()
        client.close()
        until(lambda rid=request_id: bench.served(rid))
        _, seen = bench.sole(request_id)
        until(lambda s=seen: s.state == "gone")
    if bench.picker_process:
        until(lambda: bench.picker_metric("freehold_picker_in_flight", pool="chat") == 0)


@case(broken.no_retries, broken.drop_filter("busy"), broken.many_retries)
def a_busy_worker_s_request_goes_to_another_once(bench: Bench) -> None:
    with busy(bench.engines.generate[:3]) as engines:
        free = bench.engines.generate[3]
        attempts = []
        for number in range(24):
            answer = bench.post(CHAT, bench.chat(f"{number}"))
            reached = [engine for engine, _ in bench.served(answer.headers["x-request-id"])]
            attempts.append(len(reached))
            assert len(reached) <= 2
            assert len(set(reached)) == len(reached), "the same worker twice"
            assert answer.status_code == (200 if free in reached else 503)
            if answer.status_code == 503:
                error = expect_error(answer, 503, "busy")
                assert error["code"] == "service_unavailable"
                assert int(answer.headers["retry-after"]) >= 1
        assert 2 in attempts
        assert engines


@case(broken.no_health_checks)
def a_dead_worker_costs_nothing_and_comes_back(bench: Bench) -> None:
    dead = bench.engines.generate[1]
    dead.stop()
    try:
        for number in range(30):
            answer = bench.post(CHAT, bench.chat(f"{number} {fresh_id()}"))
            assert answer.status_code == 200, answer.text
        admin = f"http://127.0.0.1:{bench.gateway.admin_port}/stats"
        out = {"filter": "cluster.chat.membership_healthy"}
        until(lambda: httpx.get(admin, params=out).text.strip().endswith(": 3"))
    finally:
        dead.start()
    pin = {"x-freehold-worker": dead.name}
    until(lambda: bench.post(CHAT, bench.chat(), pin).status_code == 200)
    until(lambda: httpx.get(admin, params=out).text.strip().endswith(": 4"))
    before = len(dead.seen)

    def chosen_again() -> bool:
        assert bench.post(CHAT, bench.chat(fresh_id())).status_code == 200
        return len(dead.seen) > before

    until(chosen_again)  # Envoy gathers changes of health for a second before it lays the ring anew


@case(broken.retries_what_began)
def what_a_worker_has_begun_is_not_sent_again(bench: Bench) -> None:
    for engine in bench.engines.generate:
        engine.dies_on_request = True
    try:
        answer = bench.post(CHAT, bench.chat())
        expect_error(answer, 503)
        assert "retry-after" in answer.headers
        assert len(bench.served(answer.headers["x-request-id"])) == 1
    finally:
        for engine in bench.engines.generate:
            engine.dies_on_request = False


@case(broken.buffered_answers)
def a_stream_whose_worker_dies_ends_with_an_error(bench: Bench) -> None:
    with streaming(bench) as (_, events, request_id):
        next(events)
        engine, _ = bench.sole(request_id)
        engine.stop()
        try:
            ended = False
            try:
                list(events)
            except httpx.RemoteProtocolError:
                ended = True
            assert ended, "it ended as if it were complete"
            assert len(bench.served(request_id)) == 1
        finally:
            engine.start()
    _all_in_rotation(bench)


@case(broken.plain_error(500))
def an_engine_that_speaks_no_http_is_a_503(bench: Bench) -> None:
    """Envoy's own word for it would be a 502 in plain text."""
    bench.engines.embed.speaks_garbage = True
    try:
        answer = bench.post("/v1/embeddings", {"model": "embed", "input": "x"})
        assert expect_error(answer, 503, "Try again")["code"] == "service_unavailable"
    finally:
        bench.engines.embed.speaks_garbage = False


@case(broken.drop_filter("busy"))
def a_pool_that_is_away_is_a_503_with_retry_after(bench: Bench) -> None:
    bench.engines.rerank.stop()
    try:
        body = {"model": "rerank", "query": "a", "documents": ["b"]}
        answer = bench.post("/v1/rerank", body)
        assert expect_error(answer, 503, "Try again")["code"] == "service_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        bench.engines.rerank.start()
    until(lambda: bench.post("/v1/rerank", body).status_code == 200)


# --- The picker away ----------------------------------------------------------------------------------


@case(broken.picker_is_needed, picker=True)
def a_dead_picker_costs_cache_hits_only(bench: Bench) -> None:
    with _picker_back_afterwards(bench) as picker:
        picker.kill()
        for number in range(30):
            answer = bench.post(CHAT, bench.chat(f"{number}"))
            assert answer.status_code == 200, answer.text
        _bounded_hashing_goes_on(bench)
        expect_error(bench.post(CHAT, {"model": "nobody", "messages": []}), 404, "chat")
        expect_error(bench.post(CHAT, b"{"), 400, "application/json")


@case(broken.patient_with_the_picker, picker=True)
def a_frozen_picker_is_waited_for_a_moment_only(bench: Bench) -> None:
    """50 ms a request until it is ejected; the bound here is wide, the broken one waits 3 s."""
    with _picker_back_afterwards(bench) as picker:
        picker.send(signal.SIGSTOP)
        slowest = 0.0
        for number in range(10):
            began = time.monotonic()
            answer = bench.post(CHAT, bench.chat(f"{number}"))
            slowest = max(slowest, time.monotonic() - began)
            assert answer.status_code == 200, answer.text
        assert slowest < 1.0, f"{slowest:.2f} s"
        _bounded_hashing_goes_on(bench)


def _bounded_hashing_goes_on(bench: Bench) -> None:
    """Same beginning, same worker; and one hot beginning spreads."""
    again = {bench.worker_of(bench.post(CHAT, bench.chat("the same"))) for _ in range(6)}
    assert len(again) == 1, again
    with held(bench, 16, lambda number: bench.chat("hot " * 300 + f"{number}")) as counts:
        assert max(counts.values()) <= 1.25 * 16 / 4 + 1, counts


@contextmanager
def _picker_back_afterwards(bench: Bench) -> Iterator[PickerProcess]:
    picker = bench.picker_process
    assert picker is not None
    try:
        yield picker
    finally:
        picker.send(signal.SIGCONT)
        picker.kill()
        picker.start()
        until(lambda: is_ready(bench.gateway))
    _all_in_rotation(bench)


# --- Helpers ------------------------------------------------------------------------------------------


def _held_chat(bench: Bench, **fields: Any) -> Json:
    return bench.chat(stub={"hold": True}, **fields)


@contextmanager
def held(bench: Bench, count: int, body: Callable[[int], Json]) -> Iterator[Counter[str]]:
    """`count` requests at the engines at once; yields how many each engine has."""
    ids = [fresh_id() for _ in range(count)]

    def send(number: int) -> int:
        asked = {**body(number), "stub": {"hold": True}}
        return bench.post(CHAT, asked, {"x-request-id": ids[number]}).status_code

    with ThreadPoolExecutor(count) as pool:
        answers = []
        try:
            # One after another: how even they lie must not hang on how many connect at the same moment.
            for number, request_id in enumerate(ids):
                answers.append(pool.submit(send, number))
                until(lambda sent=request_id: bench.served(sent))
            yield Counter(engine.name for i in ids for engine, _ in bench.served(i))
        finally:
            bench.release()
        assert [answer.result() for answer in answers] == [200] * count


@contextmanager
def streaming(bench: Bench) -> Iterator[tuple[httpx.Response, Iterator[str], str]]:
    """A stream that its engine holds after the first event."""
    request_id = fresh_id()
    headers = bench.headers({"x-request-id": request_id})
    client = httpx.Client(timeout=5)
    body = _held_chat(bench, stream=True)
    try:
        with client.stream("POST", bench.base_url + CHAT, json=body, headers=headers) as answer:
            yield answer, filter(None, answer.iter_lines()), request_id
    finally:
        bench.release()
        client.close()


@contextmanager
def busy(engines: list[StubEngine]) -> Iterator[list[StubEngine]]:
    for engine in engines:
        engine.busy = True
    try:
        yield engines
    finally:
        for engine in engines:
            engine.busy = False


def _all_in_rotation(bench: Bench) -> None:
    admin = f"http://127.0.0.1:{bench.gateway.admin_port}/stats"
    out = {"filter": "cluster.chat.membership_healthy"}
    until(lambda: httpx.get(admin, params=out).text.strip().endswith(": 4"))
    if bench.picker_process:
        up = "freehold_picker_worker_up"
        until(lambda: bench.picker_metric(up, pool="chat") == 4)
