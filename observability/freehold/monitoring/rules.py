"""The committed rules, and what a stack and a rehearsal make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from freehold.config.errors import FreeholdError
from freehold.planning.plan import Plan

from .check import recorded_labels
from .plan_series import PLAN_SERIES, plan_rules
from .promql import seconds, windows, with_windows

OBSERVABILITY = Path(__file__).parents[2]
RULES = OBSERVABILITY / "rules"

# Rules of this file mean something only where an Alertmanager runs.
_ON_CLUSTERS = "cluster"
# A rate needs this many scrapes in its window to outlive one that was lost.
_SCRAPES_A_WINDOW = 4
_TIMES = ("for", "interval", "keep_firing_for")

Rules = dict[str, Any]
"""A Prometheus rule file: `{"groups": [{"name": ..., "rules": [...]}]}`."""


@cache
def _committed() -> dict[str, Rules]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))}


def rule_files(
    plan: Plan,
    *,
    cluster: bool,
    divisor: float = 1.0,
    scrape_seconds: float = 5.0,
    budget_usd_per_month: float | None = None,
) -> dict[str, Rules]:
    """Every rule file of a stack by its name: the plan's own series first, then the committed ones.

    A rehearsal of minutes stands for days: `divisor` divides every window. Raises FreeholdError when
    that leaves a window too few scrapes.
    """
    files = {"plan": plan_rules(plan, budget_usd_per_month)}
    for name, rules in _committed().items():
        if cluster or name != _ON_CLUSTERS:
            shorter = divided(rules, divisor, scrape_seconds)
            files[name] = _with_runbooks(shorter, plan.observability.runbook_url)
    return files


def all_rules() -> list[Mapping[str, Any]]:
    """Every committed rule, recording and alerting."""
    return [rule for rules in _committed().values() for rule in _each(rules)]


def alerts() -> dict[str, Mapping[str, Any]]:
    """Every alerting rule by its name."""
    found = [rule for rule in all_rules() if "alert" in rule]
    by_name = {rule["alert"]: rule for rule in found}
    assert len(by_name) == len(found), "two alerts share a name"
    return by_name


@cache
def recorded() -> dict[str, frozenset[str]]:
    """What rules record, with its labels: beside the sources' metrics all that may be read."""
    return recorded_labels(all_rules(), PLAN_SERIES)


def divided(rules: Rules, divisor: float, scrape_seconds: float) -> Rules:
    """The same rules with every window, wait and interval divided."""
    if divisor == 1:
        return rules
    rules = deepcopy(rules)
    for rule in _each(rules):
        shortest = min(windows(rule["expr"]), default=None)
        if shortest is not None and shortest / divisor < _SCRAPES_A_WINDOW * scrape_seconds:
            raise FreeholdError(
                f"windows cannot be divided by {divisor:g}: {shortest:g} s would be "
                f"{shortest / divisor:g} s, fewer than {_SCRAPES_A_WINDOW} scrapes of "
                f"{scrape_seconds:g} s; at most {shortest / _SCRAPES_A_WINDOW / scrape_seconds:g}"
            )
        rule["expr"] = with_windows(rule["expr"], lambda window: _duration(window / divisor))
    for holder in [*rules["groups"], *_each(rules)]:
        for key in _TIMES:
            if key in holder:
                holder[key] = _duration(seconds(holder[key]) / divisor)
    return rules


def _with_runbooks(rules: Rules, url: str) -> Rules:
    """The same rules with every alert's page at the address that the stack names."""
    rules = deepcopy(rules)
    for rule in _each(rules):
        if "alert" in rule:
            rule["annotations"]["runbook"] = url.replace("{alert}", rule["alert"])
    return rules


def _each(rules: Rules) -> Iterator[dict[str, Any]]:
    return (rule for group in rules["groups"] for rule in group["rules"])


def _duration(of_seconds: float) -> str:
    return f"{round(of_seconds * 1000)}ms"
