"""What is read out of expressions, and what is found wrong with them."""

from __future__ import annotations

import pytest

from freehold.monitoring.check import problems
from freehold.monitoring.promql import Matcher, Selector, parse, with_windows
from freehold.monitoring.rules import all_rules, recorded


def test_selectors_with_their_matchers_windows_and_functions() -> None:
    parsed = parse(
        "histogram_quantile(0.5, sum by (pool, le) (rate(a:b_bucket{job='x', c=~\"d|{\"}[5m])))\n"
        "/ on (pool) group_left (team) other # } by (comment)\n"
        "and avg_over_time((plain > bool 0)[1h30m:1m] offset 1d) > 1e3"
    )
    bucket = Selector(
        "a:b_bucket", (Matcher("job", "=", "x"), Matcher("c", "=~", "d|{")), "rate", 300
    )
    assert parsed.selectors == (bucket, Selector("other"), Selector("plain"))
    assert parsed.grouping == {"pool", "le", "team"}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('{__name__="up", job="x"}', ["up"]),
        ("sum(up) by (job)", ["up"]),
        ("quantile by (job) (0.5, up)", ["up"]),
        ("up unless ignoring (job) up offset 5m", ["up", "up"]),
        ("vector(1) or time() - NaN", []),
        ("sum without (job) (up) @ end()", ["up"]),
    ],
)
def test_names(expression: str, names: list[str]) -> None:
    assert [selector.name for selector in parse(expression).selectors] == names


def test_windows_and_nothing_else_are_replaced() -> None:
    expression = 'rate(a{le="5m"}[5m]) * 60 + avg_over_time(b[1h:30s]) offset 2d'
    halved = with_windows(expression, lambda seconds: f"{seconds / 2:.0f}s")
    assert halved == 'rate(a{le="5m"}[150s]) * 60 + avg_over_time(b[1800s:15s]) offset 86400s'


def test_what_is_no_promql_is_refused() -> None:
    with pytest.raises(ValueError, match="no PromQL at"):
        parse("up & up")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("vllm:gpu_cache_usage_perc", "no source exports vllm:gpu_cache_usage_perc"),
        (
            "rate(vllm:time_per_output_token_seconds_bucket[5m])",
            'did you mean "vllm:request_time_per_output_token_seconds_bucket"',
        ),
        ('vllm:num_requests_waiting{model="chat"}', 'has no label "model"'),
        ('rate(vllm:request_success_total{finished_reason="done"}[5m])', "matches none of abort"),
        ("rate(vllm:num_requests_running[5m])", "which is a gauge"),
        ("deriv(vllm:generation_tokens_total[5m])", "which only grows"),
        ("vllm:generation_tokens_total > 5", "its value means nothing"),
        ("sum by (model) (vllm:num_requests_running)", 'no selector of it has the label "model"'),
        ("pool:figures", 'did you mean "pool:figure"'),
    ],
)
def test_an_expression_that_matches_nothing_is_named(expression: str, problem: str) -> None:
    found = problems(expression, recorded())
    assert len(found) == 1
    assert problem in found[0]


def test_every_rule_reads_what_exists() -> None:
    found = {
        rule.get("alert") or rule["record"]: problem
        for rule in all_rules()
        for problem in problems(rule["expr"], recorded())
    }
    assert found == {}
