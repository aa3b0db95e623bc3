"""Every metric that Freehold reads, by the source that exports it, as it stands in a scrape.

A rule, a panel or a scaling trigger that names anything else fails `freehold.monitoring.check`.
Each list is held against its source: vLLM, LMCache, Envoy, the picker and Prometheus by scraping
the real ones, exporters of clusters against the lists that they publish.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal[
    "vllm",
    "lmcache",
    "envoy",
    "picker",
    "prometheus",
    "dcgm",
    "kube-state-metrics",
    "node-exporter",
    "kubelet",
    "scrape",
]

# What a scrape adds to every series. `pool` and `worker` are Freehold's, set where an engine is scraped:
# an engine knows neither.
TARGET_LABELS = frozenset({"job", "instance", "pool", "worker", "namespace", "pod", "node"})

# Job names, the same on a laptop and on a cluster.
ENGINE, GATEWAY, PICKER, CACHE, PROMETHEUS = "engine", "gateway", "picker", "cache", "prometheus"


@dataclass(frozen=True)
class Metric:
    """One family. A counter's name carries `_total` where its source writes it; a histogram's name is
    that of the family, whose series end in `_bucket`, `_sum` and `_count`."""

    name: str
    kind: Kind
    labels: frozenset[str]
    source: Source
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Labels with a closed set of values."""
    when: str = ""
    """What must have happened before it is there at all; empty when it is there from the start."""

    @property
    def series(self) -> dict[str, frozenset[str]]:
        """Names of its series in a scrape, with their own labels."""
        if self.kind != "histogram":
            return {self.name: self.labels}
        counts = {f"{self.name}_sum": self.labels, f"{self.name}_count": self.labels}
        return {f"{self.name}_bucket": self.labels | {"le"}, **counts}


@cache
def metrics() -> dict[str, Metric]:
    """All of them, by name."""
    found = [
        *_vllm(),
        *_lmcache(),
        *_envoy(),
        *_picker(),
        *_prometheus(),
        *_dcgm(),
        *_kubernetes(),
        *_nodes(),
        Metric("up", "gauge", frozenset(), "scrape"),
        # Written by Prometheus itself for every alert that is pending or firing.
        Metric("ALERTS", "gauge", frozenset({"alertname", "alertstate", "severity"}), "scrape"),
    ]
    by_name = {metric.name: metric for metric in found}
    assert len(by_name) == len(found), "a metric is listed twice"
    return by_name


@cache
def series() -> dict[str, Metric]:
    """The family of each series that a selector may name."""
    return {name: metric for metric in metrics().values() for name in metric.series}


def from_source(source: Source) -> list[Metric]:
    return [metric for metric in metrics().values() if metric.source == source]


def _vllm() -> list[Metric]:
    """vLLM 0.32's /metrics (vllm/v1/metrics/loggers.py); counters gain `_total` when written."""
    labels = frozenset({"model_name", "engine"})

    def one(kind: Kind, name: str, when: str = "", **values: set[str]) -> Metric:
        closed = {label: frozenset(allowed) for label, allowed in values.items()}
        return Metric(f"vllm:{name}", kind, labels | closed.keys(), "vllm", closed, when)

    speculation = "the engine speculates"
    return [
        one("gauge", "num_requests_running"),
        one("gauge", "num_requests_waiting"),
        one("gauge", "kv_cache_usage_perc"),
        one("counter", "num_preemptions_total"),
        one("counter", "prefix_cache_queries_total"),
        one("counter", "prefix_cache_hits_total"),
        one("counter", "external_prefix_cache_queries_total"),
        one("counter", "external_prefix_cache_hits_total"),
        one("counter", "prompt_tokens_total"),
        one("counter", "generation_tokens_total"),
        one(
            "counter",
            "request_success_total",
            finished_reason={"stop", "length", "abort", "error", "repetition"},
        ),
        one("counter", "spec_decode_num_drafts_total", speculation),
        one("counter", "spec_decode_num_draft_tokens_total", speculation),
        one("counter", "spec_decode_num_accepted_tokens_total", speculation),
        one("histogram", "time_to_first_token_seconds"),
        one("histogram", "request_time_per_output_token_seconds"),
        one("histogram", "inter_token_latency_seconds"),
        one("histogram", "request_queue_time_seconds"),
        # Of the Python client, with no label.
        Metric("process_start_time_seconds", "gauge", frozenset(), "vllm"),
    ]


def _lmcache() -> list[Metric]:
    """LMCache 0.5.6's server (lmcache/v1/mp_observability): OpenTelemetry's names as its Prometheus
    exporter writes them, unit and `_total` included. A series appears with its first event."""
    looked_up = "an engine has looked something up"
    stored = "something went to the tier behind host memory"

    def one(kind: Kind, name: str, when: str, *labels: str) -> Metric:
        return Metric(f"lmcache_mp_{name}", kind, frozenset(labels), "lmcache", {}, when)

    return [
        one("gauge", "l1_memory_usage_bytes", ""),
        one("gauge", "l1_usage_ratio", ""),
        one("counter", "lookup_requested_tokens_total", looked_up, "model_name", "cache_salt"),
        one("counter", "lookup_hit_l1_tokens_total", looked_up, "model_name", "cache_salt"),
        one("counter", "lookup_hit_l2_tokens_total", looked_up, "model_name", "cache_salt"),
        one("counter", "l2_store_submitted_objects_chunks_total", stored),
        one("counter", "l2_store_completed_objects_chunks_total", stored),
        one("counter", "l1_evicted_chunks_total", "host memory was full", "cache_salt"),
    ]


def _envoy() -> list[Metric]:
    """Envoy 1.40's /stats/prometheus. `door` is the listener that clients see; a cluster is a pool, or
    the picker."""
    door = "envoy_http_conn_manager_prefix"
    code_class = "envoy_response_code_class"
    classes = frozenset("12345")

    def of_door(kind: Kind, name: str, *labels: str) -> Metric:
        values = {code_class: classes} if code_class in labels else {}
        return Metric(f"envoy_http_{name}", kind, frozenset({door, *labels}), "envoy", values)

    def of_cluster(kind: Kind, name: str, when: str = "", *labels: str) -> Metric:
        values = {code_class: classes} if code_class in labels else {}
        all_labels = frozenset({"envoy_cluster_name", *labels})
        return Metric(f"envoy_cluster_{name}", kind, all_labels, "envoy", values, when)

    def of_tenant(name: str, when: str, *labels: str) -> Metric:
        """Counted by the gateway's own configuration (freehold.gateway.usage)."""
        return Metric(
            f"envoy_freehold_{name}",
            "counter",
            frozenset({"tenant", "pool", *labels}),
            "envoy",
            {},
            when,
        )

    return [
        of_door("counter", "downstream_rq_xx", code_class),
        of_door("counter", "downstream_rq_total"),
        of_door("gauge", "downstream_rq_active"),
        of_door("counter", "rbac_denied"),
        Metric(
            "envoy_http_local_rate_limit_rate_limited",
            "counter",
            frozenset({"envoy_local_http_ratelimit_prefix"}),
            "envoy",
        ),
        of_cluster("gauge", "membership_healthy"),
        of_cluster("gauge", "membership_total"),
        of_cluster("gauge", "upstream_rq_active"),
        of_cluster("counter", "upstream_rq_retry"),
        of_cluster("counter", "upstream_rq_xx", "a request was answered", code_class),
        of_cluster("counter", "upstream_cx_connect_fail"),
        of_cluster("histogram", "upstream_rq_time", "a request was answered"),
        of_tenant("requests", "a request has ended", "status"),
        of_tenant("prompt_tokens", "an answer named its tokens"),
        of_tenant("completion_tokens", "an answer named its tokens"),
        Metric("envoy_server_days_until_first_cert_expiring", "gauge", frozenset(), "envoy"),
        Metric("envoy_server_uptime", "gauge", frozenset(), "envoy"),
    ]


def _picker() -> list[Metric]:
    """The endpoint picker of this repository (freehold.gateway.picker.metrics)."""
    picked = "a request was picked a worker"
    reasons = {"reason": frozenset({"prefix", "session", "new"})}
    of_worker = frozenset({"pool", "worker"})
    return [
        Metric(
            "freehold_picker_picks_total",
            "counter",
            of_worker | {"reason"},
            "picker",
            reasons,
            picked,
        ),
        Metric(
            "freehold_picker_prompt_chunks_total",
            "counter",
            frozenset({"pool"}),
            "picker",
            {},
            picked,
        ),
        Metric(
            "freehold_picker_matched_chunks_total",
            "counter",
            frozenset({"pool"}),
            "picker",
            {},
            picked,
        ),
        Metric("freehold_picker_in_flight", "gauge", of_worker, "picker"),
        Metric("freehold_picker_worker_up", "gauge", of_worker, "picker"),
    ]


def _prometheus() -> list[Metric]:
    """Prometheus 2.42 and 3 about themselves."""

    def one(kind: Kind, name: str, *labels: str, when: str = "") -> Metric:
        return Metric(f"prometheus_{name}", kind, frozenset(labels), "prometheus", {}, when)

    remote = "remote_write is set"
    return [
        one("counter", "rule_evaluation_failures_total", "rule_group"),
        one("counter", "tsdb_head_samples_appended_total", "type"),
        one("gauge", "tsdb_head_series"),
        one("gauge", "notifications_alertmanagers_discovered"),
        one("counter", "notifications_dropped_total"),
        one("counter", "tsdb_wal_corruptions_total"),
        one("counter", "target_scrapes_exceeded_sample_limit_total"),
        one("counter", "remote_storage_samples_failed_total", "remote_name", "url", when=remote),
    ]


def _dcgm() -> list[Metric]:
    """Fields that `DCGM_COUNTERS` asks the exporter for; the labels are those of dcgm-exporter 4.8.2
    (internal/pkg/rendermetrics), `hostname` is the node, and pod labels are there while a pod has
    the GPU."""
    labels = frozenset(
        {"gpu", "UUID", "pci_bus_id", "device", "modelName", "hostname", "exported_pod"}
        | {"exported_namespace", "exported_container"}
    )
    return [Metric(name, kind, labels, "dcgm") for name, kind, _ in DCGM_COUNTERS]


# The exporter's own list leaves ECC and throttling out. Units from its etc/default-counters.csv, version
# 4.8.2, read 2026-11-24: violations count nanoseconds.
DCGM_COUNTERS: tuple[tuple[str, Kind, str], ...] = (
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C)."),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W)."),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %)."),
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active."),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor pipe is active."),
    ("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "Ratio of cycles the memory interface is active."),
    ("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB)."),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB)."),
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz)."),
    ("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered."),
    ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "counter", "Double-bit volatile ECC errors."),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed."),
    ("DCGM_FI_DEV_POWER_VIOLATION", "counter", "Throttled by power (in ns)."),
    ("DCGM_FI_DEV_THERMAL_VIOLATION", "counter", "Throttled by heat (in ns)."),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries."),
)


def _kubernetes() -> list[Metric]:
    """kube-state-metrics (docs/metrics, stable ones) and the kubelet's volumes.

    The chart keeps the object's own `namespace`, `pod` and `node` (honorLabels)."""
    pod = frozenset({"namespace", "pod", "uid"})

    def one(kind: Kind, name: str, labels: frozenset[str], **values: set[str]) -> Metric:
        closed = {label: frozenset(allowed) for label, allowed in values.items()}
        return Metric(f"kube_{name}", kind, labels | closed.keys(), "kube-state-metrics", closed)

    truth = {"true", "false", "unknown"}
    volume = frozenset({"namespace", "persistentvolumeclaim"})
    return [
        one("counter", "pod_container_status_restarts_total", pod | {"container"}),
        one("gauge", "pod_start_time", pod),
        one("gauge", "pod_status_ready", pod, condition=truth),
        one("gauge", "pod_labels", pod | {spelled(label) for label in POD_LABELS}),
        one("gauge", "node_status_condition", frozenset({"node", "condition"}), status=truth),
        one(
            "gauge", "node_labels", frozenset({"node"} | {spelled(label) for label in NODE_LABELS})
        ),
        Metric("kubelet_volume_stats_available_bytes", "gauge", volume, "kubelet"),
        Metric("kubelet_volume_stats_capacity_bytes", "gauge", volume, "kubelet"),
    ]


# Labels that kube-state-metrics is told to let through: what a pod runs, its pool, and a node's group, and
# how it spells them.
POD_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
NODE_LABELS = ("freehold/node-group",)


def spelled(label: str) -> str:
    """As kube-state-metrics writes it."""
    return "label_" + re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _nodes() -> list[Metric]:
    """node_exporter 1.12 (collector/filesystem_common.go, meminfo.go)."""
    labels = frozenset({"device", "fstype", "mountpoint"})
    return [
        Metric("node_filesystem_avail_bytes", "gauge", labels, "node-exporter"),
        Metric("node_filesystem_size_bytes", "gauge", labels, "node-exporter"),
        Metric("node_filesystem_readonly", "gauge", labels, "node-exporter"),
        Metric("node_memory_MemAvailable_bytes", "gauge", frozenset(), "node-exporter"),
        Metric("node_memory_MemTotal_bytes", "gauge", frozenset(), "node-exporter"),
    ]
