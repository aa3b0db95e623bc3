"""Plans of stacks whose models Bedrock serves: prices by the token, and nothing of GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from freehold.catalog.bedrock import load_bedrock_models
from freehold.catalog.hosted import load_hosted
from freehold.catalog.models import load_models
from freehold.cli.plan import command
from freehold.config import FreeholdError, parse_stack
from freehold.planning.plan import Plan, make_plan
from freehold.planning.to_json import plan_to_json

ROOT = Path(__file__).parents[2]
TREE: dict[str, Any] = {
    "target": {"kind": "bedrock", "region": "us-east-2"},
    "pools": [
        {
            "name": "chat",
            "role": "generate",
            "model": "openai.gpt-oss-120b-1:0",
            "demand": {"requests_per_minute": 10, "input_tokens": 2000, "output_tokens": 500},
        }
    ],
}
CLUSTER = {
    "kind": "eks",
    "region": "us-east-2",
    "zones": ["us-east-2a", "us-east-2b"],
    "endpoint": {"runner": "in-vpc"},
}


def plan(today: str | None = None, *, pool: dict[str, Any] | None = None, **keys: Any) -> Plan:
    pools = [{**TREE["pools"][0], **(pool or {})}]
    return make_plan("test", parse_stack({**TREE, "pools": pools, **keys}, "test"), today=today)


def refusal(**arguments: Any) -> str:
    with pytest.raises(FreeholdError) as caught:
        plan(**arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_month_is_requests_times_tokens_times_the_catalog_s_price() -> None:
    price = load_hosted()["Bedrock"]["gpt-oss-120b"]
    a_request = (2000 * price.input + 500 * price.output) / 1e6
    cost = plan().cost
    assert cost and cost.usd_per_month == pytest.approx(10 * 60 * 730 * a_request, abs=0.01)
    assert price.date in cost.items[0].name
    out = 10 * 60 * 730 * 500 / 1e6
    assert cost.usd_per_million_output_tokens == pytest.approx(cost.usd_per_month / out, rel=1e-3)


def test_hours_are_those_in_which_the_demand_is_there() -> None:
    office = {"days": ["mon", "tue", "wed", "thu", "fri"], "start": "08:00", "stop": "18:00"}
    always, sometimes = plan().cost, plan(hours=office).cost
    assert always and sometimes
    assert sometimes.usd_per_month == pytest.approx(always.usd_per_month * 50 / 168, rel=1e-3)


def test_of_requests_and_tokens_a_minute_the_larger_counts() -> None:
    demand = {**TREE["pools"][0]["demand"], "tokens_per_minute": 100_000}
    hosted = plan(pool={"demand": demand}).pools[0].hosted
    assert hosted and hosted.requests_per_minute == 40


def test_an_unknown_price_is_said_and_in_no_sum() -> None:
    made = plan(pool={"model": "qwen.qwen3-coder-30b-a3b-v1:0"})
    assert made.cost and made.cost.items == () and made.cost.usd_per_month == 0
    assert made.cost.usd_per_million_output_tokens is None
    assert any("no price of qwen.qwen3-coder-30b-a3b-v1:0 is known" in w for w in made.warnings)
    hosted = plan_to_json(made)["pools"][0]["hosted"]
    assert hosted["usd_per_million_input_tokens"] is None and hosted["price_date"] is None


def test_the_json_has_every_key_and_null_where_there_is_no_engine() -> None:
    made = plan_to_json(plan())
    pool = made["pools"][0]
    for key in (
        *("instance_type", "capacity", "nodes", "replicas", "gpus_per_replica", "engine_args"),
        *("tensor_parallel", "pipeline_parallel", "quantization", "memory_gib", "predicted"),
    ):
        assert pool[key] is None, key
    assert (pool["name"], pool["role"], pool["model"]) == ("chat", "generate", "gpt-oss-120b")
    assert pool["max_model_len"] == load_models()["gpt-oss-120b"].max_context
    assert pool["hosted"]["id"] == "openai.gpt-oss-120b-1:0" and made["node_groups"] == []


def test_a_cluster_for_the_gateway_costs_what_it_costs_elsewhere_without_gpus() -> None:
    cost = plan(target={**TREE["target"], "cluster": CLUSTER}).cost
    assert cost and cost.gpu_usd_per_month == 0
    names = [item.name for item in cost.items]
    assert "EKS control plane" in names and not [n for n in names if "model store" in n]
    assert cost.token_usd_per_month == plan().cost.usd_per_month  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("openai.gpt-oss-120b", 'did you mean "openai.gpt-oss-120b-1:0"'),
        ("gpt-oss-120b", 'did you mean "openai.gpt-oss-120b-1:0"'),
        ("anthropic.claude-sonnet-4-v1:0", "in us-east-2 it has openai.gpt-oss-20b-1:0"),
    ],
)
def test_an_unknown_model_names_the_nearest_and_what_there_is(model: str, said: str) -> None:
    message = refusal(pool={"model": model})
    assert f'pools[0] (chat).model: the catalog has no Bedrock model "{model}"' in message
    assert said in message


def test_a_model_that_the_region_lacks_names_where_it_is() -> None:
    message = refusal(
        pool={"model": "qwen.qwen3-235b-a22b-2507-v1:0"},
        target={"kind": "bedrock", "region": "us-east-1"},
    )
    assert "is not offered in us-east-1; it is in " in message and "us-west-2" in message


def test_a_request_longer_than_the_model_takes_is_refused() -> None:
    demand = {"requests_per_minute": 1, "input_tokens": 140_000, "output_tokens": 1000}
    assert "141,000 tokens a request" in refusal(pool={"demand": demand})


def test_a_dearer_month_than_the_budget_is_refused() -> None:
    message = refusal(budget={"usd_per_month": 100})
    assert "budget.usd_per_month: 100, the plan costs 263" in message and "GPUs" not in message


def test_what_a_person_should_know() -> None:
    said = "\n".join(plan("2026-12-01", target={"kind": "bedrock", "region": "eu-west-1"}).warnings)
    assert "prices are of 2026-06-30, older than 90 days" in said
    assert "eu-west-1 may be dearer" in said and "no budget" in said
    silent = "\n".join(plan(budget={"usd_per_month": 500}).warnings)
    assert "set target.alarm_email" in silent and "may be dearer" not in silent


def screen(*arguments: str) -> str:
    done = CliRunner().invoke(command, ["bedrock", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_screen_says_who_serves_and_nothing_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    said = screen()
    assert "Bedrock in us-east-2, gateway on this machine" in said
    assert "25.0 requests/min" in said and "all in" in said
    assert "GPU" not in said and "KV cache" not in said and "vLLM" not in said
    compared = screen("--what-if", "requests_per_minute=50")
    assert "openai.gpt-oss-120b-1:0" in compared and "this machine" not in compared
    both = json.loads(screen("--what-if", "requests_per_minute=50", "--json"))
    months = [both[key]["cost"]["usd_per_month"] for key in ("plan", "what_if")]
    assert months[1] == pytest.approx(2 * months[0], abs=0.01)


def test_every_row_of_the_catalog_is_one_that_others_know() -> None:
    for row in load_bedrock_models().values():
        assert row.model is None or row.model in load_models()
        assert row.regions == tuple(sorted(set(row.regions)))
