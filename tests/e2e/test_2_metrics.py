"""Every metric that Freehold reads exists in the real stack's scrapes, with its type and labels."""

from __future__ import annotations

import httpx
import pytest
from monitoring.exposition import missing, read

from freehold.monitoring.metrics import Source, from_source
from freehold.monitoring.rules import all_rules

from .conftest import GATEWAY_PORT, PROMETHEUS_PORT, LiveStack, text_of, until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def used(stack: LiveStack) -> LiveStack:
    """The stack after a few requests long enough for the cache, the same ones twice, on both workers."""
    for worker in ("chat-0", "chat-1"):
        for _ in range(2):
            answer = stack.chat(text_of(600, "metrics"), worker=worker, max_tokens=8)
            assert answer.status_code == 200, answer.text
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": "again and again " * 20}],
    }
    headers = {"authorization": f"Bearer {stack.key}"}
    url = f"{stack.base_url}/v1/chat/completions"
    done = httpx.post(url, json={**body, "max_tokens": 16}, headers=headers, timeout=120)
    assert done.status_code == 200, done.text
    return stack


def _lacking(source: Source, *texts: str) -> list[str]:
    """Metrics of a source that none of the scrapes has."""
    scrapes = [read(text) for text in texts]
    return [
        str(found[0])
        for metric in from_source(source)
        if all(found := [missing(metric, scrape) for scrape in scrapes])
    ]


def test_vllm(used: LiveStack) -> None:
    """`assistant` speculates, so that its metrics are there too."""
    processes = used.status()
    urls = [processes[name]["url"] for name in ("chat-0", "assistant-0")]
    assert _lacking("vllm", *(httpx.get(f"{url}/metrics", timeout=10).text for url in urls)) == []


def test_lmcache(used: LiveStack) -> None:
    url = used.status()["cache"]["url"]
    evicted = "lmcache_mp_l1_evicted_chunks_total"  # needs a full host memory

    def lacking() -> list[str] | None:
        text = httpx.get(f"{url}/metrics", timeout=10).text
        found = [one for one in _lacking("lmcache", text) if evicted not in one]
        return found or ["nothing"]

    # Its event bus drains every now and then.
    assert until("LMCache has counted", lambda: lacking() == ["nothing"] and "yes") == "yes"


def test_envoy_and_the_picker(used: LiveStack) -> None:
    admin = httpx.get(f"http://127.0.0.1:{GATEWAY_PORT + 1}/stats/prometheus", timeout=10).text
    assert _lacking("envoy", admin) == []
    picker = httpx.get(f"{used.status()['picker']['url']}/metrics", timeout=10).text
    assert _lacking("picker", picker) == []


def test_prometheus_evaluates_every_rule_and_the_figures_are_live(used: LiveStack) -> None:
    api = f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1"
    groups = httpx.get(f"{api}/rules", timeout=10).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    committed = {rule.get("alert") or rule["record"] for rule in all_rules()}
    assert committed - {rule["name"] for rule in rules} == {"AlertsGoNowhere", "Watchdog"}
    query = 'count by (worker) (worker:figure{pool="chat", figure="output_tokens_per_second"} > 0)'

    def workers() -> list[dict]:
        answer = httpx.get(f"{api}/query", params={"query": query}, timeout=10).json()
        return answer["data"]["result"]

    until("both workers have live figures", lambda: len(workers()) == 2, seconds=90)


def test_nothing_fires_on_a_sound_stack(used: LiveStack) -> None:
    api = f"http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/alerts"
    alerts = httpx.get(api, timeout=10).json()["data"]["alerts"]
    firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
    # Tests before this one may have refused keys and stopped workers for a while.
    assert firing <= {"KeysRefused", "KeyOverItsLimit", "WorkerRestarts"}
