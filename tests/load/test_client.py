"""The streaming client against the deterministic server: times, counts, and every way to fail."""

from __future__ import annotations

import itertools
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import gevent
import numpy as np
import pytest

from freehold.load.client import StreamingClient
from freehold.load.deterministic import deterministic_server
from freehold.load.selfcheck import errors_against_truth
from freehold.load.traffic import TextMaker, Traffic
from freehold.load.traffic.sessions import session

from .conftest import chat


def test_tokens_are_counted_and_the_role_chunk_is_no_output(client: StreamingClient) -> None:
    found = client.send(chat(8, "how are you"))
    assert found.ok, found.error
    assert (found.prompt_tokens, found.output_tokens) == (5, 8)  # 3 words, a message, an opening
    assert len(found.itls) == 7
    # Nothing but the role comes before 30 ms: had it counted, this would be about 1 ms.
    assert found.ttft is not None and found.ttft >= 0.03


def test_each_event_is_timed_as_it_arrives(client: StreamingClient) -> None:
    """In one of five tries: a machine that is busy for a moment hands several over at once, a client that
    reads in bundles does so always."""
    client.send(chat(4))
    assert any(_times_are_the_servers(client) for _ in range(5))


def _times_are_the_servers(client: StreamingClient) -> bool:
    jobs = [gevent.spawn(client.send, chat(40)) for _ in range(4)]
    found = [job.get() for job in jobs]
    sent = np.concatenate([np.diff(each.truth["sent"]) for each in found if each.truth])
    seen = np.concatenate([each.itls for each in found])
    # Bundled reading gives gaps of nothing and then of many tokens: here the spread is the server's.
    same_spread = np.percentile(seen, 10) > 0.3 * np.percentile(sent, 10)
    _, itl_error = errors_against_truth(found)
    return bool(same_spread) and abs(itl_error) < 1.0


def test_latency_ends_with_the_last_output_not_with_usage(client: StreamingClient) -> None:
    found = client.send(chat(10))
    assert found.ttft is not None and found.latency is not None
    assert found.latency == pytest.approx(found.ttft + sum(found.itls))


def test_answers_that_are_not_streamed(client: StreamingClient) -> None:
    call = chat(4)
    call.path, call.streamed = "/v1/embeddings", False
    call.body = {"input": ["one two", "three"]}
    found = client.send(call)
    assert found.ok, found.error
    assert (found.prompt_tokens, found.output_tokens, found.ttft) == (3, None, None)
    assert found.latency is not None and found.latency >= 0.03


def test_hanging_up_on_purpose_is_no_failure(client: StreamingClient) -> None:
    found = client.send(chat(50, cancel_after=5))
    assert found.cancelled and found.error_kind is None and not found.ok
    assert len(found.itls) == 4
    assert client.send(chat(4)).ok  # the connection given up is not used again


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("broken", "broken stream"),
        ("cut", "broken stream"),
        ("error", "broken stream"),
        ("busy", "http 503"),
        ("die", "broken stream"),
    ],
)
def test_what_goes_wrong_is_in_the_record(fault: str, kind: str) -> None:
    with deterministic_server("--ttft-ms", "5", "--itl-ms", "2", "--fault", fault) as url:
        client = StreamingClient(url, None, timeout=5)
        found = client.send(chat(10))
    assert found.error_kind in (kind, "disconnected")
    assert found.error and found.latency is not None


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = StreamingClient(f"http://127.0.0.1:{taken.getsockname()[1]}", None)
        assert client.send(chat()).error_kind == "refused"


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.append(door.accept()[0]), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        for each in held:
            each.close()


def test_a_silent_server_is_a_timeout(silent: str) -> None:
    began = time.monotonic()
    assert StreamingClient(silent, None, timeout=0.3).send(chat()).error_kind == "timeout"
    assert time.monotonic() - began < 5


def test_the_key_is_sent_and_v1_in_the_url_is_no_matter() -> None:
    with deterministic_server("--ttft-ms", "5", "--itl-ms", "1", "--key", "sk-right") as url:
        assert StreamingClient(f"{url}/v1/", "sk-right").send(chat()).ok
        refused = StreamingClient(url, "sk-wrong").send(chat())
    assert refused.error_kind == "http 401"
    assert refused.error == "Invalid API key."


def test_many_streams_at_once_keep_their_times(client: StreamingClient) -> None:
    client.send(chat(4))
    jobs = [gevent.spawn(client.send, chat(20)) for _ in range(30)]
    found = [job.get() for job in jobs]
    assert all(each.ok for each in found)
    assert {each.output_tokens for each in found} == {20}
    assert statistics.median(each.ttft or 0 for each in found) >= 0.03


@pytest.mark.parametrize("kind", ["fixed", "chat", "retrieval", "agents"])
def test_prompts_are_as_long_as_the_server_counts_them(
    client: StreamingClient, words: TextMaker, kind: str
) -> None:
    traffic = Traffic(kind=kind, input_tokens=900, output_tokens=4, documents=3, context_limit=2000)  # type: ignore[arg-type]
    user = session(traffic, words, "deterministic", "u")
    records = [client.send(call) for calls in itertools.islice(user, 4) for call in calls]
    assert [r.prompt_tokens for r in records] == [r.asked_input for r in records]
    assert [r.output_tokens for r in records] == [4] * 4 == [r.asked_output for r in records]
