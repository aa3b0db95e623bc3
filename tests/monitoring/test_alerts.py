"""Every alert fires when it should and is silent when it should not, in promtool's own evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from freehold.config.errors import FreeholdError
from freehold.monitoring.rules import RULES, alerts, divided

from .alert_cases import CASES, MORE
from .promtool import promtool, run_cases

_EVERY = (*CASES, *MORE)
_PROVOKED = {
    "LatencyBudgetBurnsFast",
    "ErrorBudgetBurnsFast",
    "WorkerDown",
    "WorkerRestarts",
    "QueueGrows",
    "KvCacheFull",
    "OneSlowWorker",
    "CacheTierLost",
}
# Fires always: there is no world without it.
_ALWAYS = {"Watchdog"}


def _committed() -> dict[str, dict]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))}


def test_promtool_takes_the_committed_rules() -> None:
    done = promtool("check", "rules", *map(str, sorted(RULES.glob("*.yaml"))))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == alerts().keys() - _ALWAYS


@pytest.mark.parametrize("interval", sorted({case.interval for case in _EVERY}))
def test_each_fires_and_is_silent_as_it_should(tmp_path: Path, interval: str) -> None:
    cases = [case for case in _EVERY if case.interval == interval]
    done = run_cases(tmp_path, _committed(), cases)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rehearsal_s_shorter_windows_see_the_same(tmp_path: Path) -> None:
    """What rehearsals provoke, with a second for a minute."""
    files = {name: divided(rules, 60, 1.0) for name, rules in _committed().items()}
    cases = [case for case in CASES if case.alert in _PROVOKED]
    assert len(cases) == len(_PROVOKED)
    done = run_cases(tmp_path, files, cases, divisor=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_windows_with_too_few_scrapes_are_refused() -> None:
    with pytest.raises(FreeholdError, match=r"5 s, fewer than 4 scrapes of 5 s; at most 15"):
        divided(_committed()["workers"], 60, scrape_seconds=5.0)
