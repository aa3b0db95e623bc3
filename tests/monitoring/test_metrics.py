"""Every listed metric exists where it is said to: in real scrapes, or in the lists that exporters publish."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from gateway.running import KEY, Bench, Engines, running_gateway, until

import freehold.simulator
from freehold.monitoring import plan_series
from freehold.monitoring.metrics import Source, from_source, metrics
from freehold.simulator.metrics import Metrics

from .exposition import missing, read
from .real_prometheus import free_address, running

PUBLISHED = Path(__file__).parent / "published"


def _missing(source: Source, text: str) -> list[str]:
    scrape = read(text)
    return [problem for metric in from_source(source) for problem in missing(metric, scrape)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    engines = Engines()
    engines.start()
    with running_gateway(engines, tmp_path_factory.mktemp("gateway"), picker=True) as bench:
        body = {"model": "chat", "messages": [{"role": "user", "content": "word " * 200}]}
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"{bench.base_url}/v1/chat/completions"
        for _ in range(2):
            assert httpx.post(url, json=body, headers=headers).status_code == 200
        yield bench
    engines.stop()


def test_a_real_envoy_exports_what_is_read_of_it(bench: Bench) -> None:
    url = f"http://127.0.0.1:{bench.gateway.admin_port}/stats/prometheus"
    assert _missing("envoy", httpx.get(url).text) == []


def test_a_real_picker_exports_what_is_read_of_it(bench: Bench) -> None:
    health = bench.gateway.picker_health()
    assert health is not None
    assert _missing("picker", httpx.get(f"http://{health[0]}:{health[1]}/metrics").text) == []


def test_a_real_prometheus_exports_what_is_read_of_it(tmp_path: Path) -> None:
    """Once it has scraped something and evaluated a rule."""
    address = free_address()
    config = {
        "global": {"evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "self",
                "scrape_interval": "1s",
                "static_configs": [{"targets": [address]}],
            }
        ],
        "rule_files": ["r.yml"],
        # A remote that is not there: its metrics exist only with one.
        "remote_write": [{"url": "http://127.0.0.1:9/"}],
    }
    (tmp_path / "p.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "r.yml").write_text("groups: [{name: g, rules: [{record: r, expr: up}]}]\n")
    with running(tmp_path / "p.yml", address, tmp_path / "data"):
        url = f"http://{address}/metrics"
        until(lambda: "head_samples_appended_total{" in httpx.get(url).text)
        assert _missing("prometheus", httpx.get(url).text) == []


def test_the_simulated_engine_exports_what_is_read_of_vllm() -> None:
    exposition = Metrics("chat", 4096, {}, draft_tokens=3, started=1.5e9).text()
    assert _missing("vllm", exposition) == []
    assert "process_start_time_seconds 1500000000.0" in exposition


def test_bounds_are_those_of_the_pinned_vllm() -> None:
    """As vLLM itself told the simulator's snapshot."""
    folder = Path(freehold.simulator.__file__).parent
    families = {one["name"]: one for one in json.loads((folder / "vllm_metrics.json").read_text())}
    ttft = families["vllm:time_to_first_token_seconds"]["buckets"]
    tpot = families["vllm:request_time_per_output_token_seconds"]["buckets"]
    assert list(plan_series.TTFT_BOUNDS) == ttft
    assert list(plan_series.TPOT_BOUNDS) == tpot


@pytest.mark.parametrize("source", ["dcgm", "kube-state-metrics", "node-exporter", "kubelet"])
def test_exporters_of_clusters_publish_what_is_read_of_them(source: Source) -> None:
    """Against lists copied from the exporters' own repositories (published/README.md)."""
    published = dict(
        line.split()[:2]
        for line in (PUBLISHED / f"{source}.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    read_of_it = {metric.name: metric.kind for metric in from_source(source)}
    assert read_of_it
    assert {name: published.get(name) for name in read_of_it} == read_of_it


def test_metrics_that_vllm_lost_are_not_listed() -> None:
    gone = ("time_per_output_token_seconds", "gpu_cache_usage_perc", "num_requests_swapped")
    assert [name for name in gone if f"vllm:{name}" in metrics()] == []
