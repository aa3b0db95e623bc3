"""What each tenant uses and costs, from the gateway's counters and the plan's prices."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from freehold.monitoring.rules import RULES

from .alert_cases import World, always, growing
from .promtool import promtool

_PRICE = {'plan:gpu_usd_per_hour{pool="chat"}': always(1.2)}


def _generated(**tokens_a_minute: float) -> World:
    counter = 'envoy_freehold_completion_tokens{{tenant="{}",pool="chat",instance="h:1"}}'
    return {counter.format(tenant): growing(n) for tenant, n in tokens_a_minute.items()}


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        (_generated(a=300, b=100), {"a": 0.9, "b": 0.3}),
        (_generated(a=300, b=0), {"a": 1.2, "b": 0.0}),
        (_generated(a=0, b=0), {}),
    ],
    ids=["by what was generated", "one alone", "nobody while nothing is generated"],
)
def test_a_pool_s_dollars_fall_on_its_tenants(
    world: World, expected: dict[str, float], tmp_path: Path
) -> None:
    samples = [
        {"labels": f'{{tenant="{tenant}"}}', "value": usd} for tenant, usd in expected.items()
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": k, "values": v} for k, v in {**world, **_PRICE}.items()],
        "promql_expr_test": [
            {
                "expr": "round(sum by (tenant) (tenant:usd_per_hour), 0.0001)",
                "eval_time": "20m",
                "exp_samples": samples,
            }
        ],
    }
    suite = {"rule_files": [str(RULES / "recording.yaml")], "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(suite))
    done = promtool("test", "rules", "test.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
