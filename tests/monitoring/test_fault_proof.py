"""Faults in a running stack make exactly the expected alerts fire, and they resolve when it is well again.

Takes about ten minutes; the table that docs/observability.md shows is printed (`pytest -m e2e -s`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from gateway.running import until

from freehold.monitoring.dashboards.table import markdown

from .live_stack import RATE_INTERVAL, WORKERS, Live, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# What is left is room for a few of the requests that are sent.
_KV_TAKEN = 0.96
_SECONDS_TO_FIRE, _SECONDS_TO_RESOLVE = 90, 120


@dataclass(frozen=True)
class Fault:
    name: str
    begin: Callable[[Live], None]
    end: Callable[[Live], None]
    alerts: frozenset[str]


def _everywhere(**faults: float | bool) -> Callable[[Live], None]:
    def change(live: Live) -> None:
        for index in range(WORKERS):
            live.fault(f"chat-{index}", **faults)

    return change


def _fill_kv(live: Live) -> None:
    """Long answers to long prompts, and memory for a few of them."""
    _everywhere(kv_taken=_KV_TAKEN)(live)
    live.long.set()


def _empty_kv(live: Live) -> None:
    live.long.clear()
    _everywhere(kv_taken=0.0)(live)


FAULTS = (
    Fault(
        "a worker freezes",
        lambda live: live.send("chat-1", signal.SIGSTOP),
        lambda live: live.send("chat-1", signal.SIGCONT),
        frozenset({"WorkerDown"}),
    ),
    Fault(
        "a worker is three times as slow",
        lambda live: live.fault("chat-0", slow=3.0),
        lambda live: live.fault("chat-0", slow=1.0),
        frozenset({"OneSlowWorker"}),
    ),
    Fault(
        "the cache server freezes",
        lambda live: live.send("cache", signal.SIGSTOP),
        lambda live: live.send("cache", signal.SIGCONT),
        frozenset({"CacheServerDown"}),
    ),
    Fault(
        "Redis goes away",
        lambda live: live.fault("cache", redis_away=True),
        lambda live: live.fault("cache", redis_away=False),
        frozenset({"CacheTierLost"}),
    ),
    Fault("KV memory is full", _fill_kv, _empty_kv, frozenset({"KvCacheFull"})),
    Fault(
        "the picker freezes",
        lambda live: live.send("picker", signal.SIGSTOP),
        lambda live: live.send("picker", signal.SIGCONT),
        frozenset({"PickerAway", "TargetDown"}),
    ),
    Fault(
        "many more ask at once",
        lambda live: live.burst.set(),
        lambda live: live.burst.clear(),
        frozenset({"QueueGrows"}),
    ),
    # Last: the month's allowance stays spent for so long that the slow alert would follow.
    Fault(
        "every third answer is an error",
        _everywhere(error_rate=0.33),
        _everywhere(error_rate=0.0),
        frozenset({"ErrorBudgetBurnsFast", "GatewayErrors"}),
    ),
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("faults")) as live:
        yield live


def test_nothing_fires_while_all_is_well(live: Live) -> None:
    assert live.firing() == set()


def test_every_panel_has_data_or_says_what_it_needs(live: Live) -> None:
    rows = markdown(live.prometheus, RATE_INTERVAL).splitlines()
    assert [row for row in rows if row.endswith("| none: ? |")] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_makes_its_alerts_fire_and_no_others(live: Live, fault: Fault) -> None:
    until(lambda: live.firing() == set(), seconds=_SECONDS_TO_RESOLVE)
    fault.begin(live)
    began, seen, fired = time.monotonic(), set[str](), 0.0
    try:
        while time.monotonic() - began < _SECONDS_TO_FIRE and not fired:
            seen |= live.firing()
            fired = time.monotonic() - began if fault.alerts <= seen else 0.0
            time.sleep(0.5)
        time.sleep(5)
        seen |= live.firing()
    finally:
        fault.end(live)
    ended = time.monotonic()
    assert seen == fault.alerts
    until(lambda: live.firing() == set(), seconds=_SECONDS_TO_RESOLVE)
    resolved = time.monotonic() - ended
    names = ", ".join(sorted(fault.alerts))
    print(f"\n| {fault.name} | {names} | {fired:.0f} s | {resolved:.0f} s |")
