"""The optimization pages: each has its four parts, and their figures are of runs that were really made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from freehold.config import load_stack, parse_stack
from freehold.planning.plan import make_plan

from .optimizations import LAPTOP, benchmark
from .pages import DOCS, name_of

PAGES = [page for page in sorted((DOCS / "optimizations").glob("*.md")) if page.name != "index.md"]
CASES: list[Any] = list(benchmark("cases").cases())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_says_when_it_pays_what_it_gives_and_how_to_switch_it_on(page: Path) -> None:
    text = page.read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert {"When it pays", "Switch it on", "What can go wrong"} <= set(headings)
    assert "what-if" in text or "freehold plan" in text, "no figure of the plan"
    topic = page.stem
    assert f"<!-- generated: rehearsed {topic} -->" in text or "On a laptop" in text


@pytest.mark.parametrize("topic", sorted({case.topic for case in CASES}))
def test_a_topic_is_rehearsed_with_and_without(topic: str) -> None:
    """Everything but the switch is the same: GPUs, lengths and requests in flight."""
    page = DOCS / "optimizations" / f"{topic}.md"
    assert f"<!-- generated: rehearsed {topic} -->" in page.read_text()
    by_load: dict[tuple[int, int], list[str]] = {}
    for case in CASES:
        if case.topic == topic:
            demand = case.stack["pools"][0]["demand"]
            by_load.setdefault((case.load, demand["concurrency"]), []).append(case.title)
    assert all(len(set(titles)) == len(titles) > 1 for titles in by_load.values())


def test_results_of_whole_stacks_are_of_cases_that_there_are() -> None:
    rehearse = benchmark("rehearse")
    known = {rehearse._key(case) for case in CASES if case.whole}
    assert set(json.loads(rehearse.RESULTS.read_text())) <= known


def test_what_the_laptop_counted_adds_up() -> None:
    """A step gives its own token and the guesses that were right; the last one may be cut at the answer's
    end, and the first belongs to the prompt."""
    for kind, got in json.loads(LAPTOP.read_text())["guessing"].items():
        assert 0 < got["accepted"] <= got["drafted"] <= 4 * got["steps"], kind
        assert abs(got["steps"] - (got["tokens"] - got["accepted"])) <= 3 * got["answers"], kind


# --- Virtual time -------------------------------------------------------------------------------------

ALONE = next(case for case in CASES if case.topic == "quantization" and case.title == "fp8")


def in_virtual_time(users: int, **engine: object) -> dict[str, float]:
    pool = ALONE.stack["pools"][0]
    pool = pool | {"engine": engine, "demand": pool["demand"] | {"concurrency": 1}}
    plan = make_plan("case", parse_stack(ALONE.stack | {"pools": [pool]}, "case"))
    demand = plan.pools[0].demand
    assert demand
    return benchmark("virtual_time").run(plan, demand, users)


def test_one_user_alone_sees_what_the_plan_says() -> None:
    pool = ALONE.stack["pools"][0]
    pool = pool | {"demand": pool["demand"] | {"concurrency": 1}}
    planned = make_plan("case", parse_stack(ALONE.stack | {"pools": [pool]}, "case"))
    predicted, found = planned.pools[0].predicted, in_virtual_time(1)
    assert predicted
    assert found["median_ttft_ms"] == pytest.approx(predicted.median_ttft_ms, rel=0.05)
    assert found["median_tpot_ms"] == pytest.approx(predicted.median_tpot_ms, rel=0.05)
    assert found["output_throughput"] == pytest.approx(predicted.output_throughput, rel=0.1)


def test_who_finds_no_seat_waits_for_one() -> None:
    seated, waiting = in_virtual_time(8, max_num_seqs=8), in_virtual_time(16, max_num_seqs=8)
    answer = 200 * seated["median_tpot_ms"]  # tokens of one, on average
    assert waiting["median_ttft_ms"] > seated["median_ttft_ms"] + 0.8 * answer
    assert waiting["median_tpot_ms"] == pytest.approx(seated["median_tpot_ms"], rel=0.1)
    assert waiting["output_throughput"] == pytest.approx(seated["output_throughput"], rel=0.1)


def test_conversations_find_what_they_repeat() -> None:
    case = next(c for c in CASES if c.topic == "prefix-caching" and c.demand_of is None)
    plan = make_plan("case", parse_stack(case.stack, "case"))
    demand = plan.pools[0].demand
    assert demand
    found = benchmark("virtual_time").run(plan, demand, 8)["cached"]
    assert demand.prefix_hit_rate - 0.1 < found <= demand.prefix_hit_rate + 0.02
    other = demand.model_copy(update={"prefix_hit_rate": 0.0})
    assert benchmark("virtual_time").run(plan, other, 8)["cached"] < 0.02


def test_under_any_overload_the_admitted_have_their_first_token_in_time() -> None:
    """Of the plan's own limit; what the KV cache holds would be too many."""
    admission = benchmark("admission")
    plan = make_plan("small", load_stack("small", DOCS.parent))
    by_word = {word: most for most, word in admission.limits(plan).items()}
    aim = 1000 * admission.aim_of(plan)
    assert aim == 1.5 * 2000
    assert admission.found(plan, by_word["the plan's"])["p95_ttft_ms"] < aim
    assert admission.found(plan, by_word["what the KV cache holds"])["p95_ttft_ms"] > aim
