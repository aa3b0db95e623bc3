"""Writes the three files; each appears whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from freehold.config import FreeholdError

from ..analysis import Analysis
from ..record import RequestRecord
from ..server_side import Series
from .page import page

JSON, CSV, HTML = "report.json", "requests.csv", "report.html"
_COLUMNS = (
    "name",
    "stage",
    "session",
    "turn",
    "started",
    "intended",
    "dispatch_delay",
    "ttft",
    "tpot",
    "latency",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "asked_input",
    "asked_output",
    "reusable",
    "status",
    "finish_reason",
    "warmup",
    "cancelled",
    "worker",
    "error_kind",
    "error",
)


def write_report(
    out: Path,
    analysis: Analysis,
    requests: Sequence[RequestRecord],
    series: Sequence[Series] = (),
) -> None:
    """`requests`: all of them, warm-up too: the column says so. Seconds, unrounded."""
    _write(out / CSV, _csv(requests))
    _write(out / JSON, orjson.dumps(analysis.report, option=orjson.OPT_INDENT_2, default=float))
    _write(out / HTML, page(analysis, requests, series).encode())


def read_report(path: Path) -> Mapping[str, Any]:
    """A report.json, or that of a folder."""
    file = path / JSON if path.is_dir() else path
    try:
        report = orjson.loads(file.read_bytes())
    except OSError as error:
        raise FreeholdError(f"cannot read the report {file}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise FreeholdError(f"{file} is not a report: {error}") from None
    if not isinstance(report, dict) or "median_ttft_ms" not in report:
        raise FreeholdError(f"{file} is not the report.json of a load test")
    return report


def _csv(requests: Sequence[RequestRecord]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for record in requests:
        writer.writerow(["" if (v := getattr(record, c)) is None else v for c in _COLUMNS])
    return text.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FreeholdError(
            f"cannot write {path}: {error.strerror}. The records of every request are kept in "
            f"{path.parent} (records-*.jsonl); free some space, then `freehold load --again {path.parent}` "
            "makes the report from them"
        ) from None
