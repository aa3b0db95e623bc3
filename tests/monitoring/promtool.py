"""Runs promtool over rules and cases."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from freehold.local.tools import find_tools
from freehold.monitoring.promql import seconds

from .alert_cases import Case, World

TOOLS = Path(__file__).parents[2] / ".freehold" / "tools"
_GATEWAY = {'up{job="gateway",instance="door"}': "1+0x600"}


def promtool(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = find_tools(["promtool"], TOOLS, print)["promtool"]
    return subprocess.run(
        [str(program), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def run_cases(
    folder: Path, files: dict[str, Any], cases: Sequence[Case], divisor: int = 1
) -> subprocess.CompletedProcess[str]:
    """The cases, all of one interval, against rule files."""
    for name, rules in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(rules, sort_keys=False))
    (folder / "test.yaml").write_text(yaml.safe_dump(_suite(files, cases, divisor)))
    return promtool("test", "rules", "test.yaml", cwd=folder)


def _suite(files: dict[str, Any], cases: Sequence[Case], divisor: int) -> dict[str, Any]:
    """Two promtool tests for each case: the alerts that fire are exactly those expected.

    Rules are evaluated at the interval that the cases have in common."""
    (interval,) = {case.interval for case in cases}
    groups = [group["name"] for rules in files.values() for group in rules["groups"]]
    tests = []
    for case in cases:
        fires = sorted({case.alert, *case.also})
        tests.append(_test(case, case.fires, fires, divisor))
        tests.append(_test(case, case.silent, sorted(case.also_silent), divisor))
    return {
        "rule_files": [f"{name}.yaml" for name in files],
        "evaluation_interval": _divided(interval, divisor),
        # promtool's own order is a map's: alerts would at times be asked before what they read.
        "group_eval_order": sorted(groups, key=lambda name: name.endswith("-alerts")),
        "tests": tests,
    }


def _test(case: Case, world: World, expected: list[str], divisor: int) -> dict[str, Any]:
    gateway = {} if any('job="gateway"' in series for series in world) else _GATEWAY
    series = {**gateway, **world}
    firing = 'count by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"}) > bool 0'
    return {
        "name": f"{case.alert} {'fires' if world is case.fires else 'is silent'}",
        "interval": _divided(case.interval, divisor),
        "input_series": [{"series": key, "values": value} for key, value in series.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": _divided(case.at, divisor),
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected
                ],
            }
        ],
    }


def _divided(duration: str, divisor: int) -> str:
    return f"{round(seconds(duration) * 1000 / divisor)}ms"
