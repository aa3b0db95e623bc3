"""The record files: merged on one clock, torn lines counted, a full disk survived."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from freehold.load.record import Health, Recorder, RequestRecord, StageStart, read_recording

from .conftest import record


def test_what_is_read_is_what_was_recorded_unrounded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    itls = (0.010000000000000123, 0.2)
    recorder.add(record(5.000000000000071, 0.1, itls, session="0-1", turn=3))
    recorder.stage(StageStart("steady", 4.0, True, 8))
    recorder.health(Health(at=5.0, cpu=0.3, lag=0.001, lag_median=0.0002))
    recorder.note(aborted="because")
    recorder.close()
    found = read_recording(tmp_path)
    (request,) = found.requests
    assert tuple(request.itls) == itls
    assert (request.session, request.turn, request.ok) == ("0-1", 3, True)
    assert found.stages[0].concurrency == 8
    assert request.started - found.stages[0].began == pytest.approx(1.0)
    assert found.health[0].cpu == 0.3
    assert found.notes == [{"aborted": "because"}]


def _file(folder: Path, name: str, boot: str, offset: float, *requests: RequestRecord) -> Path:
    lines = [{"kind": "process", "pid": 1, "clock_offset": offset, "boot": boot}]
    fields = [each for each in RequestRecord.__slots__ if each != "truth"]
    lines += [{"kind": "request", **{f: getattr(r, f) for f in fields}} for r in requests]
    path = folder / f"records-{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_processes_of_one_machine_share_a_clock_and_others_meet_by_the_wall(tmp_path: Path) -> None:
    _file(tmp_path, "a-1", "a", 1000.0, record(10.0, session="first"))
    # Its wall clock was stepped between the two starts: the monotonic clock was not.
    _file(tmp_path, "a-2", "a", 1000.7, record(10.2, session="second"))
    _file(tmp_path, "b-1", "b", 900.0, record(110.1, session="elsewhere"))
    found = read_recording(tmp_path)
    assert [r.session for r in found.requests] == ["first", "elsewhere", "second"]
    assert found.requests[2].started == pytest.approx(1010.2)
    assert found.processes == 3


def test_a_torn_last_line_is_counted_and_the_rest_kept(tmp_path: Path) -> None:
    path = _file(tmp_path, "a-1", "a", 0.0, record(1.0), record(2.0))
    path.write_bytes(path.read_bytes()[:-25])
    found = read_recording(tmp_path)
    assert (len(found.requests), found.torn) == (1, 1)


def test_a_full_disk_stops_the_writing_not_the_process(tmp_path: Path) -> None:
    name = f"records-{socket.gethostname()}-{os.getpid()}.jsonl"
    (tmp_path / name).symlink_to("/dev/full")
    recorder = Recorder(tmp_path)
    for number in range(200):
        recorder.add(record(float(number)))
    recorder.close()
    assert recorder.failed and "No space left" in recorder.failed
