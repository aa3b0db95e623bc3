"""`freehold predict`: TTFT and TPOT for every row of a CSV, from the latency model; and what a load
test says of that model."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from pathlib import Path

import click

from freehold.config import FreeholdError
from freehold.config.errors import nearest
from freehold.planning.speed.predict import predict_row
from freehold.planning.speed.rows import COLUMNS, Row

PREDICTED = ("predicted_ttft_ms", "predicted_tpot_ms")


@click.command("predict")
@click.option("--csv", "source", type=Path, help="Rows to predict.")
@click.option("--calibrate", type=Path, metavar="REPORT", help="Fit to a load test's report.json.")
@click.option(
    "--write", is_flag=True, help="With --calibrate: put the factors into the stack file."
)
@click.option("--out", type=Path, help="Where the predictions, or the fitted factors, go.")
def command(source: Path | None, calibrate: Path | None, write: bool, out: Path | None) -> None:
    """Predict median TTFT and TPOT (ms) for every row of a CSV.

    The CSV has the columns system, model, precision, isl, osl, concurrency, tp, pp, attention_dp and
    moe_ep (see docs/predict.md). OUT repeats every row and adds predicted_ttft_ms and
    predicted_tpot_ms, empty where the catalog does not know the model, system or precision.

    With --calibrate: fit three factors of the model to what a load test has measured on a stack, and
    show the error before and after. They go to calibration.json beside the report or to OUT; with
    --write into the stack file, whose plans then use them.
    """
    if (source is None) == (calibrate is None):
        raise FreeholdError("say --csv FILE --out FILE, or --calibrate REPORT")
    if calibrate is not None:
        _calibrate(calibrate, write, out)
        return
    if write:
        raise FreeholdError("--write goes with --calibrate REPORT: a CSV is of no stack")
    if source is None or out is None:
        raise FreeholdError("--csv needs --out FILE: where the predictions go")
    header, rows = _read(source)
    predictions = [_predict(source, number, row) for number, row in rows]
    names = [*(name for name in header if name not in PREDICTED), *PREDICTED]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for (_, row), values in zip(rows, predictions, strict=True):
        writer.writerow(row | dict(zip(PREDICTED, values or ("", ""), strict=True)))
    _write(out, text.getvalue())
    unknown = predictions.count(None)
    left_empty = f"; {unknown} left empty: not in the catalog" if unknown else ""
    click.echo(f"{len(rows) - unknown} of {len(rows)} rows predicted{left_empty}", err=True)


def _calibrate(path: Path, write: bool, out: Path | None) -> None:
    from freehold.load.report import read_report

    from .predict_calibrate import calibrate  # imports a whole plan

    found = calibrate(read_report(path))
    if write:
        click.echo(f"written into {found.write().name}: plans of this stack use it")
    if out or not write:
        beside = path if path.is_dir() else path.parent
        _write(out or beside / "calibration.json", found.as_json())


def _read(source: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Column names, and the rows with their line numbers."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FreeholdError(f"--csv {source} cannot be read: {_why(error)}") from None
    reader = csv.DictReader(text.splitlines())
    header = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        others = [name for name in header if name not in COLUMNS]
        said = ", ".join(f"{name}{nearest(name, others)}" for name in missing)
        raise FreeholdError(
            f"--csv {source} has no column {said}; it needs {', '.join(COLUMNS)} (docs/predict.md)"
        )
    reader.fieldnames = header
    return header, [
        (reader.line_num, {name: row.get(name) or "" for name in header}) for row in reader
    ]


def _predict(source: Path, line: int, row: dict[str, str]) -> tuple[str, str] | None:
    try:
        found = predict_row(Row.read(row))
    except ValueError as error:
        raise FreeholdError(f"--csv {source}, line {line}: {error}") from None
    return (f"{found[0]:.3f}", f"{found[1]:.4f}") if found else None


def _write(out: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a file."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=out.parent, prefix=f".{out.name}.", delete=False
        ) as file:
            file.write(text)
        try:
            os.chmod(file.name, 0o644)
            os.replace(file.name, out)
        except OSError:
            os.unlink(file.name)
            raise
    except OSError as error:
        raise FreeholdError(f"--out {out} cannot be written: {_why(error)}") from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    return error.strerror or type(error).__name__
