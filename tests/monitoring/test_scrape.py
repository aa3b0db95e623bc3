"""Prometheus's configuration."""

from __future__ import annotations

from freehold.monitoring.scrape import Target, prometheus_config


def test_one_job_for_each_kind_with_our_labels() -> None:
    config = prometheus_config(
        [
            Target("engine", "127.0.0.1:1", pool="chat", worker="chat-0"),
            Target("engine", "127.0.0.1:2", pool="chat", worker="chat-1"),
            Target("gateway", "127.0.0.1:3", path="/stats/prometheus"),
        ]
    )
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs.keys() == {"engine", "gateway"}
    assert [group["labels"]["worker"] for group in jobs["engine"]["static_configs"]] == [
        "chat-0",
        "chat-1",
    ]
    assert jobs["gateway"]["metrics_path"] == "/stats/prometheus"
    assert jobs["gateway"]["static_configs"][0]["labels"] == {}
