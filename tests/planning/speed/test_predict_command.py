"""`freehold predict`: rows in, the same rows and two columns out, or one clear message."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from freehold.cli.predict import command
from freehold.config import FreeholdError

ROOT = Path(__file__).parents[3]
HEADER = "system,model,precision,isl,osl,concurrency,tp,pp,attention_dp,moe_ep"
KNOWN = "h200_sxm,meta-llama/Llama-3.1-70B,fp8,1024,1024,16,2,1,1,1"
UNKNOWN = "h200_sxm,nobody/Nothing-1B,fp8,1024,1024,16,2,1,1,1"


def run(source: Path, out: Path) -> None:
    CliRunner().invoke(command, ["--csv", str(source), "--out", str(out)], catch_exceptions=False)


def refused(source: Path, out: Path) -> str:
    with pytest.raises(FreeholdError) as error:
        run(source, out)
    assert error.value.exit_code == 2
    return str(error.value)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "in.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_come_back_with_predictions(tmp_path: Path) -> None:
    source = write(tmp_path, HEADER + ",note", KNOWN + ",a", UNKNOWN + ",b")
    run(source, tmp_path / "out.csv")
    known, unknown = csv.DictReader((tmp_path / "out.csv").open())
    assert 100 < float(known["predicted_ttft_ms"]) < 300
    assert 10 < float(known["predicted_tpot_ms"]) < 25
    assert known["note"] == "a"
    assert unknown["model"] == "nobody/Nothing-1B"
    assert (unknown["predicted_ttft_ms"], unknown["predicted_tpot_ms"]) == ("", "")


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    names, cells = HEADER.split(","), KNOWN.split(",")
    source = write(tmp_path, ",".join(reversed(names)), ",".join(reversed(cells)))
    run(source, tmp_path / "out.csv")
    assert next(csv.DictReader((tmp_path / "out.csv").open()))["predicted_ttft_ms"]


def test_a_missing_column_is_named_with_what_is_near(tmp_path: Path) -> None:
    source = write(tmp_path, HEADER.replace("precision", "precison"), KNOWN)
    said = refused(source, tmp_path / "out.csv")
    assert 'no column precision (did you mean "precison"?)' in said
    assert not (tmp_path / "out.csv").exists()


def test_a_bad_cell_is_named_by_line(tmp_path: Path) -> None:
    source = write(tmp_path, HEADER, KNOWN, KNOWN.replace("1024,1024", "1024,long"))
    assert 'line 3: osl is "long"' in refused(source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    source = write(tmp_path, HEADER, KNOWN)
    assert "nothing.csv cannot be read" in refused(tmp_path / "nothing.csv", tmp_path / "out.csv")
    assert "cannot be written" in refused(source, tmp_path / "none" / "out.csv")
    assert "cannot be written" in refused(source, tmp_path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "no UTF-8" in refused(binary, tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binary.csv", "in.csv"]


def test_an_old_result_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    refused(write(tmp_path, HEADER, KNOWN.replace("16,2", "-1,2")), out)
    assert out.read_text() == "old"


def test_a_load_test_s_report_adjusts_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stages = [
        {
            "completed": 20,
            "mean_concurrency": concurrency,
            "total_input_tokens": 20 * 24_000,
            "total_output_tokens": 20 * 500,
            "median_ttft_ms": ttft,
            "median_tpot_ms": tpot,
        }
        for concurrency, ttft, tpot in ((6.0, 3700.0, 72.0),)
    ]
    report = {
        **{"label": "medium", "model_id": "chat", "valid": True, "stages": stages},
        **{"server": {"cache_hit_share": 0.6}, "generator": {}, "median_ttft_ms": 3000.0},
        "verdict": {},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.chdir(ROOT)
    arguments = ["--calibrate", str(tmp_path / "report.json")]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "before" in done.output and "factors: step " in done.output
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert written["deployment"].startswith("llama-3.3-70b")
    for figure in ("ttft", "tpot"):
        assert written["median_error_after"][figure] < written["median_error_before"][figure]
    (tmp_path / "report.json").write_text(json.dumps({**report, "label": "local"}))
    with pytest.raises(FreeholdError, match="has none"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--calibrate REPORT"),
        (["--csv", "a", "--calibrate", "b"], "--calibrate REPORT"),
        (["--csv", "a"], "--out FILE"),
    ],
)
def test_one_thing_at_a_time(arguments: list[str], message: str) -> None:
    with pytest.raises(FreeholdError, match=message):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
