"""The seven dashboards."""

from __future__ import annotations

from .spec import GOOD_AT_ONE, Dashboard, Panel, Query, Row, Unit, Variable, planned

_POOL = Variable("pool", "plan:replicas", "pool")
_NODE = Variable("node", "DCGM_FI_DEV_GPU_TEMP", "hostname")


def dashboards() -> tuple[Dashboard, ...]:
    return (_fleet(), _pool(), _gateway(), _cache(), _gpu(), _cost(), _plan())


def _fleet() -> Dashboard:
    now = (
        Panel(
            "Alerts that fire",
            "Each links to its runbook.",
            (
                Query(
                    'sort_desc(ALERTS{alertstate="firing", alertname!="Watchdog"})', "{{alertname}}"
                ),
            ),
            "short",
            kind="table",
            width=12,
        ),
        Panel(
            "Workers that answer",
            "Of those that the plan counts on.",
            (Query('sum(up{job="engine"}) / sum(plan:replicas)', "of planned"),),
            "percentunit",
            kind="stat",
            steps=GOOD_AT_ONE,
            width=4,
        ),
        Panel(
            "Requests that fail",
            "Answered with 5xx, over five minutes; half a percent is allowed.",
            (Query('stack:error_share{window="5m"}', "5xx"),),
            "percentunit",
            kind="stat",
            steps=((0, "green"), (0.005, "orange"), (0.05, "red")),
            width=4,
        ),
        Panel(
            "Dollars an hour",
            "What runs now, at the plan's prices.",
            (Query("stack:usd_per_hour", "now"),),
            "currencyUSD",
            kind="stat",
            width=4,
        ),
    )
    return Dashboard(
        "freehold-fleet",
        "Fleet overview",
        "For a person who has a minute: is anything wrong, is it fast, what does it cost.",
        (
            Row("Now", now),
            Row(
                "Every pool",
                (
                    _figure("median_ttft_seconds", "Time to first token", "s", pools=True),
                    _figure("median_tpot_seconds", "Time per output token", "s", pools=True),
                    _figure("requests_per_second", "Requests answered", "reqps", pools=True),
                    _figure(
                        "output_tokens_per_second",
                        "Tokens generated",
                        "suffix: tokens/s",
                        pools=True,
                    ),
                    _figure("concurrency", "Requests in flight", "short", pools=True),
                    Panel(
                        "Prompt tokens found cached",
                        "In the worker's memory or behind it.",
                        (Query('pool:prefix_hit_ratio{tier="all"}', "{{pool}}"),),
                        "percentunit",
                    ),
                ),
            ),
        ),
    )


def _pool() -> Dashboard:
    return Dashboard(
        "freehold-pool",
        "Model pool",
        "One pool and its workers: the seven figures of the load report, live, beside the plan.",
        (
            Row(
                "The seven figures",
                (
                    _figure("median_ttft_seconds", "Time to first token", "s"),
                    _figure("median_tpot_seconds", "Time per output token", "s"),
                    _figure("median_itl_seconds", "Time between tokens", "s"),
                    _figure("output_tokens_per_second", "Tokens generated", "suffix: tokens/s"),
                    _figure(
                        "total_tokens_per_second", "Tokens read and generated", "suffix: tokens/s"
                    ),
                    _figure("requests_per_second", "Requests answered", "reqps"),
                    _figure("concurrency", "Requests in flight", "short"),
                ),
            ),
            Row("Objectives", (_slow("ttft", "first token"), _slow("tpot", "tokens"))),
            Row(
                "Inside the engines",
                (
                    Panel(
                        "Requests that wait",
                        "In each worker's queue; at the plan's bound it refuses.",
                        (
                            Query(
                                'sum by (worker) (vllm:num_requests_waiting{pool=~"$pool"})',
                                "{{worker}}",
                            ),
                            planned('max(plan:queue{pool=~"$pool"})', "queue's end"),
                        ),
                        "short",
                    ),
                    Panel(
                        "KV cache in use",
                        "Full is fine as long as nothing is thrown out.",
                        (
                            Query(
                                'max by (worker) (vllm:kv_cache_usage_perc{pool=~"$pool"})',
                                "{{worker}}",
                            ),
                        ),
                        "percentunit",
                        most=1,
                    ),
                    Panel(
                        "Requests thrown out",
                        "Preempted for want of KV memory, to be computed again.",
                        (
                            Query(
                                "sum by (worker) "
                                '(rate(vllm:num_preemptions_total{pool=~"$pool"}[$__rate_interval]))',
                                "{{worker}}",
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "How requests ended",
                        "`abort`: the client left; `error`: the engine failed.",
                        (
                            Query(
                                "sum by (finished_reason) "
                                '(rate(vllm:request_success_total{pool=~"$pool"}[$__rate_interval]))',
                                "{{finished_reason}}",
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "Time in the queue",
                        "Nine of ten requests wait no longer.",
                        (
                            Query(
                                "histogram_quantile(0.9, sum by (worker, le) "
                                '(rate(vllm:request_queue_time_seconds_bucket{pool=~"$pool"}[$__rate_interval])))',
                                "{{worker}}",
                            ),
                        ),
                        "s",
                    ),
                    Panel(
                        "Guessed tokens accepted a step",
                        "Of engines that speculate.",
                        (Query('pool:accepted_tokens_per_draft{pool=~"$pool"}', "{{pool}}"),),
                        "short",
                    ),
                ),
            ),
        ),
        (_POOL,),
    )


def _gateway() -> Dashboard:
    door = '{envoy_http_conn_manager_prefix="door"}'
    return Dashboard(
        "freehold-gateway",
        "Gateway and keys",
        "What clients see: answers, refusals, and where requests are sent.",
        (
            Row(
                "At the door",
                (
                    Panel(
                        "Answers by class",
                        "4xx is the client's or its key's doing, 5xx ours.",
                        (
                            Query(
                                "sum by (envoy_response_code_class) "
                                f"(rate(envoy_http_downstream_rq_xx{door}[$__rate_interval]))",
                                "{{envoy_response_code_class}}xx",
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "Requests that fail",
                        "5xx as a share of all, by window.",
                        (
                            Query("stack:error_share", "{{window}}"),
                            planned("plan:error_share", "allowed"),
                        ),
                        "percentunit",
                    ),
                    Panel(
                        "Open requests",
                        "Streams count until their last byte.",
                        (Query(f"sum(envoy_http_downstream_rq_active{door})", "open"),),
                        "short",
                    ),
                ),
            ),
            Row(
                "Keys",
                (
                    Panel(
                        "Over their limit",
                        "Answered 429. The gateway's log names the tenant.",
                        (
                            Query(
                                "sum(rate(envoy_http_local_rate_limit_rate_limited[$__rate_interval]))",
                                "429",
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "Without a valid key",
                        "Answered 401.",
                        (
                            Query(
                                f"sum(rate(envoy_http_rbac_denied{door}[$__rate_interval]))", "401"
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "Days until the certificate ends",
                        "A very large number: there is none.",
                        (Query("min(envoy_server_days_until_first_cert_expiring)", "days"),),
                        "short",
                        kind="stat",
                        steps=((0, "red"), (21, "green")),
                    ),
                ),
            ),
            Row(
                "Tenants",
                (
                    Panel(
                        "Requests, by tenant",
                        "Whatever they were answered; `nobody` had no valid key.",
                        (
                            Query(
                                "sum by (tenant) (rate(envoy_freehold_requests[$__rate_interval]))",
                                "{{tenant}}",
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "Tokens read, by tenant",
                        "Of prompts, cached or not; counted when an answer ends.",
                        (
                            Query(
                                'sum by (tenant) (tenant:tokens_per_second{kind="prompt"})',
                                "{{tenant}}",
                            ),
                        ),
                        "suffix: tokens/s",
                    ),
                    Panel(
                        "Tokens generated, by tenant",
                        "Counted when an answer ends.",
                        (
                            Query(
                                'sum by (tenant) (tenant:tokens_per_second{kind="completion"})',
                                "{{tenant}}",
                            ),
                        ),
                        "suffix: tokens/s",
                    ),
                ),
            ),
            Row(
                "Behind it",
                (
                    Panel(
                        "Healthy workers",
                        "By the gateway's own checks.",
                        (
                            Query(
                                "min by (envoy_cluster_name) (envoy_cluster_membership_healthy)",
                                "{{envoy_cluster_name}}",
                            ),
                        ),
                        "short",
                    ),
                    Panel(
                        "Sent a second time",
                        "The first worker was full or gone.",
                        (
                            Query(
                                "sum by (envoy_cluster_name) "
                                "(rate(envoy_cluster_upstream_rq_retry[$__rate_interval]))",
                                "{{envoy_cluster_name}}",
                            ),
                        ),
                        "reqps",
                    ),
                    Panel(
                        "Why a worker was picked",
                        "`prefix`: a part of the prompt is cached there.",
                        (
                            Query(
                                "sum by (reason) (rate(freehold_picker_picks_total[$__rate_interval]))",
                                "{{reason}}",
                            ),
                        ),
                        "reqps",
                    ),
                ),
            ),
        ),
    )


def _cache() -> Dashboard:
    return Dashboard(
        "freehold-cache",
        "KV cache tiers",
        "Where prompt tokens were found: GPU memory, host memory, Redis, or nowhere.",
        (
            Row(
                "Found",
                (
                    Panel(
                        "Prompt tokens found, by tier",
                        "`gpu`: of all; `behind`: of those that the GPU's memory lacked.",
                        (
                            Query('pool:prefix_hit_ratio{pool=~"$pool"}', "{{pool}} {{tier}}"),
                            planned('plan:prefix_hit_ratio{pool=~"$pool"}'),
                        ),
                        "percentunit",
                        most=1,
                        width=12,
                    ),
                    Panel(
                        "By worker",
                        "One far below the others: it started anew, or the balancing is off.",
                        (
                            Query(
                                'worker:prefix_hit_ratio{pool=~"$pool", tier="gpu"}', "{{worker}}"
                            ),
                        ),
                        "percentunit",
                        most=1,
                        width=12,
                    ),
                ),
            ),
            Row(
                "LMCache",
                (
                    Panel(
                        "Tokens found in host memory",
                        "Of those that workers looked up there.",
                        (
                            Query(
                                "sum by (model_name) "
                                "(rate(lmcache_mp_lookup_hit_l1_tokens_total[$__rate_interval])) / "
                                "sum by (model_name) "
                                "(rate(lmcache_mp_lookup_requested_tokens_total[$__rate_interval]))",
                                "{{model_name}}",
                            ),
                        ),
                        "percentunit",
                        most=1,
                    ),
                    Panel(
                        "Tokens found behind it",
                        "On the node's disk or in Redis.",
                        (
                            Query(
                                "sum by (model_name) "
                                "(rate(lmcache_mp_lookup_hit_l2_tokens_total[$__rate_interval])) / "
                                "sum by (model_name) "
                                "(rate(lmcache_mp_lookup_requested_tokens_total[$__rate_interval]))",
                                "{{model_name}}",
                            ),
                        ),
                        "percentunit",
                        most=1,
                    ),
                    Panel(
                        "Host memory in use",
                        "It fills up and stays full; the oldest goes, which is no fault.",
                        (Query("lmcache_mp_l1_memory_usage_bytes", "{{instance}}"),),
                        "bytes",
                    ),
                    Panel(
                        "Chunks sent on and arrived",
                        "Apart from each other: Redis or the disk is lost.",
                        (
                            Query(
                                "sum(rate(lmcache_mp_l2_store_submitted_objects_chunks_total"
                                "[$__rate_interval]))",
                                "sent",
                            ),
                            Query(
                                "sum(rate(lmcache_mp_l2_store_completed_objects_chunks_total"
                                "[$__rate_interval]))",
                                "arrived",
                            ),
                        ),
                        "short",
                    ),
                ),
            ),
        ),
        (_POOL,),
    )


def _gpu() -> Dashboard:
    def of_gpu(title: str, meaning: str, expression: str, unit: Unit, **more: float) -> Panel:
        query = Query(expression.replace("$all", 'hostname=~"$node"'), "{{hostname}} {{gpu}}")
        return Panel(title, meaning, (query,), unit, most=more.get("most"))

    return Dashboard(
        "freehold-gpu",
        "GPU and nodes",
        "Machines: busy, hot, ill, full.",
        (
            Row(
                "GPUs",
                (
                    of_gpu(
                        "Busy",
                        "Share of time in which anything ran.",
                        "DCGM_FI_PROF_GR_ENGINE_ACTIVE{$all}",
                        "percentunit",
                        most=1,
                    ),
                    of_gpu(
                        "Tensor cores busy",
                        "High while prompts are read.",
                        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{$all}",
                        "percentunit",
                        most=1,
                    ),
                    of_gpu(
                        "Memory busy",
                        "High while tokens are written.",
                        "DCGM_FI_PROF_DRAM_ACTIVE{$all}",
                        "percentunit",
                        most=1,
                    ),
                    of_gpu(
                        "Memory used",
                        "Engines claim it at start.",
                        "DCGM_FI_DEV_FB_USED{$all}",
                        "mbytes",
                    ),
                    of_gpu(
                        "Temperature",
                        "From 85 °C an alert.",
                        "DCGM_FI_DEV_GPU_TEMP{$all}",
                        "celsius",
                    ),
                    of_gpu(
                        "Power", "At its cap under load.", "DCGM_FI_DEV_POWER_USAGE{$all}", "watt"
                    ),
                    of_gpu(
                        "Slowed by heat",
                        "Share of time.",
                        "rate(DCGM_FI_DEV_THERMAL_VIOLATION{$all}[$__rate_interval]) / 1e9",
                        "percentunit",
                    ),
                    of_gpu(
                        "Slowed by the power cap",
                        "Share of time; normal under load.",
                        "rate(DCGM_FI_DEV_POWER_VIOLATION{$all}[$__rate_interval]) / 1e9",
                        "percentunit",
                    ),
                    of_gpu("Last XID", "0: none.", "DCGM_FI_DEV_XID_ERRORS{$all}", "short"),
                ),
            ),
            Row(
                "Nodes",
                (
                    Panel(
                        "Nodes by group",
                        "That are there now.",
                        (
                            Query(
                                "count by (label_freehold_node_group) (kube_node_labels)",
                                "{{label_freehold_node_group}}",
                            ),
                        ),
                        "short",
                    ),
                    Panel(
                        "Memory available",
                        "Below 5 % an alert.",
                        (
                            Query(
                                "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
                                "{{instance}}",
                            ),
                        ),
                        "percentunit",
                        most=1,
                    ),
                    Panel(
                        "Disk available",
                        "Below 10 % an alert.",
                        (
                            Query(
                                'node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs"}'
                                " / node_filesystem_size_bytes",
                                "{{instance}} {{mountpoint}}",
                            ),
                        ),
                        "percentunit",
                        most=1,
                    ),
                    Panel(
                        "Volumes available",
                        "Below 10 % an alert.",
                        (
                            Query(
                                "kubelet_volume_stats_available_bytes"
                                " / kubelet_volume_stats_capacity_bytes",
                                "{{persistentvolumeclaim}}",
                            ),
                        ),
                        "percentunit",
                        most=1,
                    ),
                ),
            ),
        ),
        (_NODE,),
    )


def _cost() -> Dashboard:
    return Dashboard(
        "freehold-cost",
        "Cost",
        "Dollars by the plan's prices: what runs, what it yields, what is wasted. Not an invoice.",
        (
            Row(
                "The whole stack",
                (
                    Panel(
                        "Dollars an hour",
                        "GPU nodes that are there at their price, everything else as planned.",
                        (
                            Query("stack:usd_per_hour", "now"),
                            planned("plan:usd_per_hour"),
                            planned("plan:budget_usd_per_hour", "budget"),
                        ),
                        "currencyUSD",
                    ),
                    Panel(
                        "A month at this pace",
                        "730 hours at the mean of the last day.",
                        (Query("avg_over_time(stack:usd_per_hour[1d]) * 730", "a month"),),
                        "currencyUSD",
                        kind="stat",
                    ),
                    Panel(
                        "For a million tokens",
                        "All items over everything generated.",
                        (Query("stack:usd_per_million_output_tokens", "all items"),),
                        "currencyUSD",
                    ),
                ),
            ),
            Row(
                "Pools",
                (
                    Panel(
                        "GPUs, for a million tokens",
                        "Of the GPUs that carry the pool.",
                        (Query("pool:usd_per_million_output_tokens", "{{pool}}"),),
                        "currencyUSD",
                    ),
                    Panel(
                        "Idle dollars an hour",
                        "Paid while no request was in work.",
                        (Query("pool:idle_usd_per_hour", "{{pool}}"),),
                        "currencyUSD",
                    ),
                    Panel(
                        "Idle",
                        "Share of the workers' time.",
                        (Query("pool:idle_share", "{{pool}}"),),
                        "percentunit",
                        most=1,
                    ),
                    Panel(
                        "Bought capacity ends in",
                        "Capacity Blocks; nodes go 30 minutes before.",
                        (Query("plan:capacity_ends_timestamp_seconds - time()", "{{node_group}}"),),
                        "dtdurations",
                        kind="stat",
                        steps=((0, "red"), (86400, "orange"), (604800, "green")),
                    ),
                ),
            ),
            Row(
                "Tenants",
                (
                    Panel(
                        "Dollars an hour, by tenant",
                        "A pool's GPUs by what it generates for each, while it generates.",
                        (Query("sum by (tenant) (tenant:usd_per_hour)", "{{tenant}}"),),
                        "currencyUSD",
                        width=12,
                    ),
                    Panel(
                        "Tokens generated in a day, by tenant",
                        "The last 24 hours.",
                        (
                            Query(
                                "sum by (tenant) (increase(envoy_freehold_completion_tokens[1d]))",
                                "{{tenant}}",
                            ),
                        ),
                        "short",
                        kind="stat",
                        width=12,
                    ),
                ),
            ),
        ),
    )


def _plan() -> Dashboard:
    figures = (
        ("median_ttft_seconds", "Time to first token"),
        ("median_tpot_seconds", "Time per output token"),
        ("median_itl_seconds", "Time between tokens"),
        ("output_tokens_per_second", "Tokens generated"),
        ("total_tokens_per_second", "Tokens read and generated"),
        ("requests_per_second", "Requests answered"),
        ("concurrency", "Requests in flight"),
    )
    ratios = tuple(
        Panel(
            title,
            "Live over planned; 1 is as planned. Meaningful near the planned load.",
            (Query(f'pool:figure_to_plan{{pool=~"$pool", figure="{figure}"}}', "{{pool}}"), _ONE),
            "short",
            width=6,
        )
        for figure, title in figures
    )
    return Dashboard(
        "freehold-plan",
        "Plan against reality",
        "Each planned figure beside the live one: where the plan was wrong, plan again.",
        (
            Row("Live over planned", ratios),
            Row(
                "What the plan says",
                (
                    Panel(
                        "Planned figures",
                        "At the planned concurrency.",
                        (Query('plan:figure{pool=~"$pool"}', "{{pool}} {{figure}}"),),
                        "short",
                        kind="table",
                        width=12,
                    ),
                    Panel(
                        "Live figures",
                        "Over five minutes.",
                        (Query('pool:figure{pool=~"$pool"}', "{{pool}} {{figure}}"),),
                        "short",
                        kind="table",
                        width=12,
                    ),
                ),
            ),
        ),
        (_POOL,),
    )


_ONE = planned("vector(1)", "as planned")


def _figure(figure: str, title: str, unit: Unit, *, pools: bool = False) -> Panel:
    """One of the seven: by pool on the overview; on a pool's own page by worker, beside the plan and the
    objective."""
    live = Query(f'pool:figure{{figure="{figure}"}}', "{{pool}}")
    if pools:
        return Panel(title, "By pool, over five minutes.", (live,), unit)
    queries = [
        Query(f'worker:figure{{pool=~"$pool", figure="{figure}"}}', "{{worker}}"),
        planned(f'plan:figure{{pool=~"$pool", figure="{figure}"}}'),
    ]
    if figure in ("median_ttft_seconds", "median_tpot_seconds"):
        queries.append(planned(f'plan:objective{{pool=~"$pool", figure="{figure}"}}', "objective"))
    return Panel(title, "By worker, over five minutes.", tuple(queries), unit)


def _slow(figure: str, what: str) -> Panel:
    return Panel(
        f"Slow {what}",
        "Requests beyond twice the objective, as a share of all, by window.",
        (
            Query(f'pool:slow_share{{pool=~"$pool", figure="{figure}"}}', "{{window}}"),
            planned("plan:slow_share", "allowed"),
        ),
        "percentunit",
        width=12,
    )
