"""`freehold rehearse`: what it refuses, how long it drives, and what it makes of faults.

The whole command is in tests/e2e/test_6_rehearsal.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from freehold.cli import rehearse
from freehold.cli.rehearse_faults import Episode, Planned, alerts_table, what_happened, with_bursts
from freehold.config import FreeholdError, parse_stack
from freehold.load.record import Recorder, RequestRecord
from freehold.load.stages import Stage
from freehold.load.test import LoadTest
from freehold.local.alerts import Firing
from freehold.local.home import StackHome
from freehold.planning.plan import make_plan

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("local",), "cannot be rehearsed: none of its chat pools says its demand"),
        (
            ("small", "--fault", "kill-wroker"),
            'no fault "kill-wroker" (did you mean "kill-worker"?)',
        ),
        (("small", "--fault", "burst@soon"), "a second between 0 and 120"),
        (("small", "--fault", "burst@500"), "a second between 0 and 120"),
        (("small", "--fault", "stop-redis"), "has no Redis"),
        (("small", "--fault", "burst@30", "--duration", "20"), "is after --duration 20"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(rehearse, "bring_up_simulated", lambda *_: pytest.fail("it started"))
    refused = CliRunner().invoke(rehearse.command, arguments).exception
    assert isinstance(refused, FreeholdError) and refused.exit_code == 2
    assert message in str(refused)


def test_both_kinds_of_worker_are_read_and_only_readers_find_prompts(tmp_path: Path) -> None:
    pool = {
        "name": "chat",
        "role": "generate",
        "model": "llama-3.1-8b",
        "context": 8192,
        "demand": {"concurrency": 4, "input_tokens": 2000, "output_tokens": 200},
        "placement": {"instance_type": "g6e.xlarge"},
        "disaggregated": {"prefill_replicas": 1, "decode_replicas": 2, "link_gbps": 100},
    }
    target = {
        "kind": "eks",
        "region": "us-east-1",
        "zones": ["us-east-1a", "us-east-1b"],
        "endpoint": {"runner": "in-vpc"},
    }
    tree = {"target": target, "pools": [pool], "engine_ports_from": 20100}
    plan = make_plan("apart", parse_stack(tree, "test"))
    home = StackHome.of(tmp_path, "apart")
    home.prepare()
    workers = rehearse._workers(plan, plan.pools[0], home)
    assert [(w.name, w.url.rpartition(":")[2], w.reads) for w in workers] == [
        ("chat-prefill-0", "20100", True),
        ("chat-decode-0", "20101", False),
        ("chat-decode-1", "20102", False),
    ]


def test_the_time_is_enough_for_answers_and_for_faults() -> None:
    def seconds(lifetime: float, *faults: str, duration: float | None = None) -> float:
        planned = [Planned.read(fault) for fault in faults]
        return rehearse._Wish(1.0, planned, duration).measured_seconds(lifetime)

    assert seconds(1.0) == 30
    assert seconds(10.0) == 60
    assert seconds(100.0) == 90
    assert seconds(1.0, "kill-worker@50") == 90
    assert seconds(1.0, "kill-worker@50", duration=60) == 60


def load_test(folder: Path) -> LoadTest:
    stages = (
        Stage(name="warm-up", seconds=10, concurrency=5, measured=False),
        Stage(name="steady", seconds=90, concurrency=5),
    )
    return LoadTest(base_url="http://x", model="chat", out=folder, corpora=folder, stages=stages)


def test_a_burst_is_a_stage_of_the_load(tmp_path: Path) -> None:
    test = with_bursts(load_test(tmp_path), [Planned("burst", 30), Planned("kill-worker", 5)])
    assert [(s.name, s.seconds, s.concurrency, s.measured) for s in test.stages] == [
        ("warm-up", 10, 5, False),
        ("calm 1", 30, 5, True),
        ("burst 1", 20, 20, True),
        ("steady", 40, 5, True),
    ]
    same = with_bursts(load_test(tmp_path), [Planned("kill-worker", 5)])
    assert same.stages == load_test(tmp_path).stages


def answered(at: float, seconds: float, **more: object) -> RequestRecord:
    known: dict[str, object] = {"ttft": 0.5, "latency": seconds, "itls": [0.1], "output_tokens": 5}
    return RequestRecord("chat", at, **(known | more))  # type: ignore[arg-type]


def test_requests_are_told_by_what_went_on_while_they_were_in_flight(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for each in (
        answered(0.0, 5.0),
        answered(8.0, 5.0, error_kind="disconnected"),
        answered(12.0, 0.1, error_kind="http 503", ttft=None, itls=[]),
        answered(25.0, 5.0),
        RequestRecord("embed", 25.0, latency=0.1),
    ):
        recorder.add(each)
    recorder.close()
    offset = next(iter(_offsets(tmp_path)))
    episodes = [Episode("kill-worker", offset + 10, offset + 20)]
    table = what_happened(tmp_path, episodes)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[:3] for row in rows] == [
        ("before", "1", "0"),
        ("kill-worker", "2", "1 disconnected, 1 http 503"),
        ("after", "1", "0"),
    ]
    assert rows[0][3] == "500" and rows[1][3] == "-"
    alerts = [Firing("Early", offset, offset + 5), Firing("PoolDown", offset + 13, offset + 22)]
    shown = alerts_table([*alerts, Firing("Slow", offset + 15)], episodes)
    assert shown is not None and alerts_table(alerts[:1], episodes) is None
    assert [list(column.cells) for column in shown.columns] == [
        ["PoolDown", "Slow"],
        ["3", "5"],
        ["12", "not yet"],
    ]


def _offsets(folder: Path) -> list[float]:
    import orjson

    lines = [orjson.loads(line) for p in folder.glob("records-*") for line in p.open("rb")]
    return [line["clock_offset"] for line in lines if line["kind"] == "process"]
