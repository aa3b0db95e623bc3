"""For every alert a world in which it must fire and one, little different, in which it must not.

A value is promtool's notation: start, step each interval, how often. Each world has a gateway that
is up, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

World = Mapping[str, str]
_LENGTH = 600


def always(value: float) -> str:
    return f"{value}+0x{_LENGTH}"


def growing(each_interval: float) -> str:
    return f"0+{each_interval}x{_LENGTH}"


def stepping(before: float, after: float, at: int) -> str:
    """One value, and from so many intervals on another."""
    return f"{before}+0x{at - 1} {after}+0x{_LENGTH - at}"


@dataclass(frozen=True)
class Case:
    alert: str
    fires: World
    silent: World
    at: str = "25m"
    interval: str = "1m"
    also: tuple[str, ...] = ()
    """Other alerts that fire in the same world, as they should."""
    also_silent: tuple[str, ...] = ()
    """Alerts that fire where this one is silent, as they should."""


_TTFT = "vllm:time_to_first_token_seconds"
_CHAT = 'pool="chat",worker="chat-0",model_name="chat",engine="0"'
_LATENCY = {
    "plan:slow_share": always(0.05),
    'plan:slow_ttft_bound{pool="chat",le="5.0"}': always(1),
    f"{_TTFT}_count{{{_CHAT}}}": growing(100),
    f'{_TTFT}_bucket{{{_CHAT},le="+Inf"}}': growing(100),
}


def _slow(of_hundred: float) -> World:
    bucket = f'{_TTFT}_bucket{{{_CHAT},le="5.0"}}'
    return {**_LATENCY, bucket: growing(100 - of_hundred)}


def _answers(failed: float) -> World:
    def of(code_class: int) -> str:
        return (
            'envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="door",'
            f'envoy_response_code_class="{code_class}"}}'
        )

    return {
        "plan:error_share": always(0.005),
        of(2): growing(1000 - failed),
        of(5): growing(failed),
    }


def _up(*values: str, job: str = "engine") -> World:
    return {
        f'up{{job="{job}",pool="chat",worker="chat-{index}",instance="h:{index}"}}': value
        for index, value in enumerate(values)
    }


def _running(*values: float) -> World:
    """Requests in work at each worker, none waiting."""
    world = {}
    for index, value in enumerate(values):
        labels = f'{{pool="chat",worker="chat-{index}",model_name="chat",engine="0"}}'
        world[f"vllm:num_requests_running{labels}"] = always(value)
        world[f"vllm:num_requests_waiting{labels}"] = always(0)
    return world


def _tokens_at(*fast: float) -> World:
    """Of a hundred answers at each worker, those whose tokens take less than 25 ms; the others take up
    to 100."""
    world: dict[str, str] = {}
    name = "vllm:request_time_per_output_token_seconds_bucket"
    for index, share in enumerate(fast):
        labels = f'pool="chat",worker="chat-{index}",model_name="chat",engine="0"'
        for bound, below in (("0.025", share), ("0.1", 100.0), ("+Inf", 100.0)):
            world[f'{name}{{{labels},le="{bound}"}}'] = growing(below)
    return world


def _cached(hits: float, requests: float = 60) -> World:
    """Of a thousand prompt tokens a minute, those found in the worker's memory; a few behind it."""
    return {
        'plan:prefix_hit_ratio{pool="chat"}': always(0.6),
        f"vllm:prefix_cache_queries_total{{{_CHAT}}}": growing(1000),
        f"vllm:prefix_cache_hits_total{{{_CHAT}}}": growing(hits),
        f"vllm:external_prefix_cache_queries_total{{{_CHAT}}}": growing(1000 - hits),
        f"vllm:external_prefix_cache_hits_total{{{_CHAT}}}": growing(100),
        f'vllm:request_success_total{{{_CHAT},finished_reason="stop"}}': growing(requests),
    }


def _stores(arrive: float) -> World:
    name = "lmcache_mp_l2_store_{}_objects_chunks_total"
    label = '{instance="h:1",cache_salt=""}'
    return {
        name.format("submitted") + label: growing(60),
        name.format("completed") + label: f"500+{arrive}x{_LENGTH}",
    }


_GPU = '{gpu="0",hostname="node-1"}'
_POD = 'namespace="engines",pod="chat-0"'
_ENGINE_OF_CHAT = 'label_app_kubernetes_io_name="engine",label_app_kubernetes_io_instance="chat"'
_NVME = '{instance="n:1",device="/dev/nvme1n1",fstype="xfs",mountpoint="/mnt/k8s-disks/0"}'
_ROOT = '{instance="n:1",device="/dev/nvme0n1p1",fstype="xfs",mountpoint="/"}'


def _loading(seconds: float) -> World:
    """A pod that began at zero and is not ready, of a pool whose start is planned to take so long."""
    return {
        f"kube_pod_start_time{{{_POD}}}": always(0),
        f'kube_pod_status_ready{{{_POD},condition="false"}}': always(1),
        f"kube_pod_labels{{{_POD},{_ENGINE_OF_CHAT}}}": always(1),
        'plan:startup_seconds{pool="chat"}': always(seconds),
    }


def _filesystem(labels: str, available: float) -> World:
    return {
        f"node_filesystem_avail_bytes{labels}": always(available),
        f"node_filesystem_size_bytes{labels}": always(100),
    }


def _rollout(failed: float, slow: float = 0, requests: float = 100) -> World:
    """A newcomer beside a pool that fails 1 of 100 and has its first tokens within half a second; of the
    newcomer's first tokens `slow` of 100 take up to 2.5 s."""
    world = {'plan:rollout{pool="chat-next",of="chat"}': always(5)}
    for pool, wrong, late, each in (("chat", 1, 0, 100), ("chat-next", failed, slow, requests)):
        of_pool = f'pool="{pool}",worker="{pool}-0",model_name="{pool}",engine="0"'
        for code_class, count in ((2, each * (100 - wrong) / 100), (5, each * wrong / 100)):
            labels = f'envoy_cluster_name="{pool}",envoy_response_code_class="{code_class}"'
            world[f"envoy_cluster_upstream_rq_xx{{{labels}}}"] = growing(count)
        for bound, below in (("0.5", 100.0 - late), ("2.5", 100.0), ("+Inf", 100.0)):
            world[f'{_TTFT}_bucket{{{of_pool},le="{bound}"}}'] = growing(below)
    return world


CASES = (
    Case("RolloutFails", _rollout(failed=5), _rollout(failed=2.5)),
    Case("RolloutIsSlower", _rollout(failed=1, slow=80), _rollout(failed=1, slow=20)),
    # 80 of 100 slow is 16 times the allowed 5; 20 is 4 times, for which a page is too much.
    Case("LatencyBudgetBurnsFast", _slow(80), _slow(20)),
    Case(
        "LatencyBudgetBurnsSlowly",
        _slow(10),
        _slow(4),
        at="4d",
        interval="1h",
    ),
    Case("ErrorBudgetBurnsFast", _answers(80), _answers(20), also=("GatewayErrors",)),
    Case("ErrorBudgetBurnsSlowly", _answers(8), _answers(4), at="4d", interval="1h"),
    Case(
        "PoolDown",
        {**_up(always(0)), 'plan:replicas{pool="chat"}': always(1)},
        {**_up(always(1)), 'plan:replicas{pool="chat"}': always(1)},
        also=("WorkerDown",),
    ),
    Case(
        "WorkerDown",
        {**_up(always(1), always(0)), 'plan:replicas{pool="chat"}': always(2)},
        {**_up(always(1), always(1), always(0)), 'plan:replicas{pool="chat"}': always(2)},
    ),
    Case(
        "WorkerRestarts",
        {f'process_start_time_seconds{{job="engine",{_CHAT}}}': "0+0x4 1+0x4 2+0x4 3+0x99"},
        {f'process_start_time_seconds{{job="engine",{_CHAT}}}': "0+0x4 1+0x99"},
    ),
    Case("ModelLoadsTooSlowly", _loading(600), _loading(3000)),
    Case(
        "QueueGrows",
        {
            f"vllm:num_requests_waiting{{{_CHAT}}}": always(20),
            'plan:queue{pool="chat"}': always(64),
        },
        {
            f"vllm:num_requests_waiting{{{_CHAT}}}": always(10),
            'plan:queue{pool="chat"}': always(64),
        },
    ),
    Case(
        "KvCacheFull",
        {
            f"vllm:kv_cache_usage_perc{{{_CHAT}}}": always(0.99),
            f"vllm:num_preemptions_total{{{_CHAT}}}": growing(6),
        },
        {  # full, and nobody minds: the cache keeps what it may need again
            f"vllm:kv_cache_usage_perc{{{_CHAT}}}": always(0.99),
            f"vllm:num_preemptions_total{{{_CHAT}}}": always(6),
        },
    ),
    Case("OneHotWorker", _running(20, 2, 2), _running(9, 6, 6)),
    Case(
        "OneSlowWorker",
        {**_tokens_at(100, 0), **_running(3, 3)},
        {**_tokens_at(100, 90), **_running(3, 3)},
    ),
    Case("CacheServerDown", _up(always(0), job="cache"), _up(always(1), job="cache")),
    Case("CacheTierLost", _stores(0), _stores(60)),
    Case("HitRateCollapsed", _cached(100), _cached(500)),
    Case(
        "GatewayDown",
        {'up{job="gateway",instance="h:1"}': always(0)},
        {
            'up{job="gateway",instance="h:1"}': always(0),
            'up{job="gateway",instance="h:2"}': always(1),
        },
    ),
    Case(
        "PickerAway",
        {'envoy_cluster_membership_healthy{envoy_cluster_name="picker",instance="h:1"}': always(0)},
        {'envoy_cluster_membership_healthy{envoy_cluster_name="picker",instance="h:1"}': always(1)},
    ),
    Case(
        "GatewayErrors",
        _answers(60),
        _answers(40),
        at="20m",
        also=("ErrorBudgetBurnsFast",),
        also_silent=("ErrorBudgetBurnsFast",),
    ),
    Case(
        "KeyOverItsLimit",
        {"envoy_http_local_rate_limit_rate_limited": growing(1)},
        {"envoy_http_local_rate_limit_rate_limited": always(100)},
    ),
    Case(
        "KeysRefused",
        {'envoy_http_rbac_denied{envoy_http_conn_manager_prefix="door"}': growing(120)},
        {'envoy_http_rbac_denied{envoy_http_conn_manager_prefix="door"}': growing(30)},
    ),
    Case(
        "CertificateEnds",
        {"envoy_server_days_until_first_cert_expiring": always(10)},
        {"envoy_server_days_until_first_cert_expiring": always(4294967295)},  # there is none
        at="2h",
        interval="10m",
    ),
    Case(
        "GpuFault",
        {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": always(79)},
        {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": always(31)},
    ),
    Case(
        "XidReported",
        {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": stepping(0, 31, at=20)},
        {f"DCGM_FI_DEV_XID_ERRORS{_GPU}": stepping(0, 31, at=10)},  # a long time ago
    ),
    Case(
        "GpuMemoryErrors",
        {f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{_GPU}": stepping(0, 1, at=15)},
        {f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{_GPU}": always(1)},
    ),
    Case(
        "GpuHot",
        {f"DCGM_FI_DEV_GPU_TEMP{_GPU}": always(90)},
        {f"DCGM_FI_DEV_GPU_TEMP{_GPU}": always(80)},
    ),
    Case(  # nanoseconds: 12 s of each minute, or 3
        "GpuThrottled",
        {f"DCGM_FI_DEV_THERMAL_VIOLATION{_GPU}": growing(12e9)},
        {f"DCGM_FI_DEV_THERMAL_VIOLATION{_GPU}": growing(3e9)},
    ),
    Case(
        "GpuIdleButPaid",
        {
            **_running(0),
            'plan:replicas{pool="chat"}': always(1),
            'plan:gpu_usd_per_hour{pool="chat"}': always(1.0),
            **_up(always(1)),
        },
        {
            **_running(1),
            'plan:replicas{pool="chat"}': always(1),
            'plan:gpu_usd_per_hour{pool="chat"}': always(1.0),
            **_up(always(1)),
        },
        at="8h",
        interval="10m",
    ),
    Case(  # the second stack is an hour old
        "GpuIdleButPaid",
        {
            **_running(0),
            'plan:replicas{pool="chat"}': always(1),
            'plan:gpu_usd_per_hour{pool="chat"}': always(1.0),
            **_up(always(1)),
        },
        {
            **{series: f"_x41 {values}" for series, values in _running(0).items()},
            'plan:replicas{pool="chat"}': f"_x41 {always(1)}",
            'plan:gpu_usd_per_hour{pool="chat"}': f"_x41 {always(1.0)}",
            **_up(always(1)),
        },
        at="8h",
        interval="10m",
    ),
    Case(
        "BudgetPace",
        {"plan:usd_per_hour": always(2.0), "plan:budget_usd_per_hour": always(1.6)},
        {"plan:usd_per_hour": always(1.5), "plan:budget_usd_per_hour": always(1.6)},
        at="3h",
        interval="10m",
    ),
    Case(
        "CapacityBlockEndsSoon",
        {'plan:capacity_ends_timestamp_seconds{node_group="chat"}': always(5 * 86400)},
        {'plan:capacity_ends_timestamp_seconds{node_group="chat"}': always(9 * 86400)},
    ),
    Case(
        "CapacityBlockEnds",
        {'plan:capacity_ends_timestamp_seconds{node_group="chat"}': always(80000)},
        {'plan:capacity_ends_timestamp_seconds{node_group="chat"}': always(2 * 86400)},
        also=("CapacityBlockEndsSoon",),
        also_silent=("CapacityBlockEndsSoon",),
    ),
    Case(
        "NodeNotReady",
        {'kube_node_status_condition{node="n",condition="Ready",status="true"}': always(0)},
        {'kube_node_status_condition{node="n",condition="Ready",status="true"}': always(1)},
    ),
    Case("DiskFills", _filesystem(_ROOT, 5), _filesystem(_ROOT, 20)),
    Case("NvmeFills", _filesystem(_NVME, 5), _filesystem(_NVME, 20)),
    Case(
        "NodeMemoryLow",
        {
            'node_memory_MemAvailable_bytes{instance="n"}': always(2),
            'node_memory_MemTotal_bytes{instance="n"}': always(100),
        },
        {
            'node_memory_MemAvailable_bytes{instance="n"}': always(20),
            'node_memory_MemTotal_bytes{instance="n"}': always(100),
        },
    ),
    Case(
        "VolumeFills",
        {
            'kubelet_volume_stats_available_bytes{persistentvolumeclaim="p"}': always(5),
            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="p"}': always(100),
        },
        {
            'kubelet_volume_stats_available_bytes{persistentvolumeclaim="p"}': always(50),
            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="p"}': always(100),
        },
    ),
    Case(  # a worker that is down has an alert of its own
        "TargetDown",
        {'up{job="picker",instance="h:1"}': always(0)},
        {'up{job="cache",instance="h:1"}': always(0)},
        also_silent=("CacheServerDown",),
    ),
    Case(
        "RulesFail",
        {'prometheus_rule_evaluation_failures_total{rule_group="figures"}': growing(1)},
        {'prometheus_rule_evaluation_failures_total{rule_group="figures"}': always(7)},
    ),
    Case(
        "PrometheusTakesNothingIn",
        {'prometheus_tsdb_head_samples_appended_total{instance="h:1"}': always(7)},
        {'prometheus_tsdb_head_samples_appended_total{instance="h:1"}': growing(7)},
    ),
    Case(
        "RemoteWriteFails",
        {'prometheus_remote_storage_samples_failed_total{url="u",instance="h:1"}': growing(7)},
        {'prometheus_remote_storage_samples_failed_total{url="u",instance="h:1"}': always(7)},
    ),
    Case(
        "AlertsGoNowhere",
        {"prometheus_notifications_alertmanagers_discovered": always(0)},
        {"prometheus_notifications_alertmanagers_discovered": always(1)},
    ),
)

# Second reasons for the same alert.
MORE = (
    # Ten failures of ten requests in ten minutes may be one bad client.
    Case("RolloutFails", _rollout(failed=100), _rollout(failed=100, requests=1)),
    Case(
        "LatencyBudgetBurnsFast",
        _slow(35),  # seven times what is allowed, for six hours
        _slow(25),
        at="7h",
        interval="10m",
        also=("LatencyBudgetBurnsSlowly",),
        also_silent=("LatencyBudgetBurnsSlowly",),
    ),
    Case(
        "PoolDown",
        {'envoy_cluster_membership_healthy{envoy_cluster_name="chat",instance="h:1"}': always(0)},
        {'envoy_cluster_membership_healthy{envoy_cluster_name="chat",instance="h:1"}': always(1)},
    ),
    Case(
        "WorkerRestarts",
        {f'kube_pod_container_status_restarts_total{{{_POD},container="engine"}}': growing(0.2)},
        {f'kube_pod_container_status_restarts_total{{{_POD},container="engine"}}': growing(0.01)},
    ),
    Case(
        "GatewayDown",
        {'up{job="gateway",instance="h:1"}': f"_x{_LENGTH}"},  # nobody knows of any
        {'up{job="gateway",instance="h:1"}': always(1)},
    ),
    Case(
        "GpuMemoryErrors",
        {f"DCGM_FI_DEV_ROW_REMAP_FAILURE{_GPU}": always(1)},
        {f"DCGM_FI_DEV_ROW_REMAP_FAILURE{_GPU}": always(0)},
    ),
    Case(
        "NvmeFills",
        {f"node_filesystem_readonly{_NVME}": always(1)},
        {f"node_filesystem_readonly{_NVME}": always(0)},
    ),
    Case(  # a cluster that tells its nodes: two of the dear ones run, where one was planned
        "BudgetPace",
        {
            'kube_node_labels{node="a",label_freehold_node_group="chat"}': always(1),
            'kube_node_labels{node="b",label_freehold_node_group="chat"}': always(1),
            'plan:node_usd_per_hour{node_group="chat"}': always(2),
            "plan:other_usd_per_hour": always(1),
            "plan:usd_per_hour": always(3),
            "plan:budget_usd_per_hour": always(4),
        },
        {
            'kube_node_labels{node="a",label_freehold_node_group="chat"}': always(1),
            'kube_node_labels{node="s",label_freehold_node_group="system"}': always(1),
            'plan:node_usd_per_hour{node_group="chat"}': always(2),
            "plan:other_usd_per_hour": always(1),
            "plan:usd_per_hour": always(3),
            "plan:budget_usd_per_hour": always(4),
        },
        at="3h",
        interval="10m",
    ),
)
