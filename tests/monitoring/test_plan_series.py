"""What a plan promises becomes series that rules compare with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from serving.programs import changed_plan, plan_of

from freehold.config.errors import FreeholdError
from freehold.monitoring.plan_series import PLAN_SERIES, PlanSeries, plan_series
from freehold.monitoring.rules import rule_files

from .promtool import promtool

_STACKS = ("local", "small", "large", "onprem")


def _values(series: list[PlanSeries], name: str) -> dict[str, float]:
    """By the values of the labels, joined."""
    return {
        " ".join(value for _, value in sorted(one.labels)): one.value
        for one in series
        if one.name == name
    }


@pytest.mark.parametrize("stack", _STACKS)
def test_every_series_is_a_listed_one_with_its_labels(stack: str) -> None:
    for one in plan_series(plan_of(stack), budget_usd_per_month=100):
        assert PLAN_SERIES[one.name] == {name for name, _ in one.labels}


@pytest.mark.parametrize("stack", _STACKS)
def test_promtool_takes_every_rule_file_of_a_stack(stack: str, tmp_path: Path) -> None:
    for name, rules in rule_files(plan_of(stack), cluster=True).items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(rules))
    done = promtool("check", "rules", *map(str, tmp_path.glob("*.yaml")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_planned_figures_are_the_forecast_in_seconds() -> None:
    plan = plan_of("small")
    forecast = plan.pools[0].predicted
    assert forecast is not None
    figures = _values(plan_series(plan), "plan:figure")
    assert figures["median_ttft_seconds chat"] == pytest.approx(forecast.median_ttft_ms / 1000)
    assert figures["output_tokens_per_second chat"] == pytest.approx(forecast.output_throughput)
    assert len(figures) == 7


def test_slow_is_the_bound_of_vllm_s_histogram_above_twice_the_objective() -> None:
    objectives = {"median_ttft_ms": 2000, "median_tpot_ms": 70}
    plan = changed_plan("small", {"pools": [{"name": "chat", "objectives": objectives}]})
    series = plan_series(plan)
    bounds = {
        one.name: dict(one.labels)["le"] for one in series if one.name.startswith("plan:slow_t")
    }
    assert bounds == {"plan:slow_ttft_bound": "5.0", "plan:slow_tpot_bound": "0.15"}


def test_an_objective_that_no_histogram_can_hold_is_refused() -> None:
    objectives = {"median_tpot_ms": 50_000}
    plan = changed_plan("small", {"pools": [{"name": "chat", "objectives": objectives}]})
    with pytest.raises(FreeholdError, match=r"pool chat: .* an objective beyond 40 s"):
        plan_series(plan)


@pytest.mark.parametrize("stack", ["small", "large"])
def test_money_adds_up_to_the_plan_s(stack: str) -> None:
    plan = plan_of(stack)
    assert plan.cost is not None
    series = plan_series(plan)
    gpus = sum(_values(series, "plan:gpu_usd_per_hour").values())
    assert gpus == pytest.approx(plan.cost.gpu_usd_per_hour, abs=1e-4)
    other = _values(series, "plan:other_usd_per_hour")[""]
    assert gpus + other == pytest.approx(plan.cost.usd_per_hour, abs=1e-4)


def test_a_laptop_has_no_prices_and_no_predictions() -> None:
    names = {one.name for one in plan_series(plan_of("local"))}
    assert names == {"plan:slow_share", "plan:error_share", "plan:replicas", "plan:queue"}
