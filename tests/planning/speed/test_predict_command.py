"""`freehold predict`: rows in, the same rows and two columns out, or one clear message."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from freehold.cli.plan import command as plan
from freehold.cli.predict import command
from freehold.config import FreeholdError, load_stack
from freehold.local.simulated import replica_of
from freehold.planning.plan import PoolPlan, make_plan
from freehold.planning.speed import Factors, Load
from freehold.planning.speed.adjust import predict
from freehold.simulator.deployment import from_json, to_json

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


def _report(folder: Path, *levels: tuple[float, float, float], **more: object) -> Path:
    """A load test of `medium` that measured (in flight, TTFT, TPOT) at each level."""
    stages = [
        {
            "completed": 20,
            "mean_concurrency": concurrency,
            "total_input_tokens": 20 * 24_000,
            "total_output_tokens": 20 * 500,
            "median_ttft_ms": ttft,
            "median_tpot_ms": tpot,
        }
        for concurrency, ttft, tpot in levels
    ]
    report = {
        **{"label": "medium", "model_id": "chat", "valid": True, "stages": stages},
        **{"server": {"cache_hit_share": 0.6}, "generator": {}, "median_ttft_ms": 3000.0},
        **{"verdict": {}, "date": "20261124-120000"},
    }
    path = folder / "report.json"
    path.write_text(json.dumps(report | more))
    return path


def _calibrate(path: Path, *more: str) -> str:
    arguments = ["--calibrate", str(path), *more]
    return CliRunner().invoke(command, arguments, catch_exceptions=False).output


def test_a_load_test_s_report_says_how_far_off_the_model_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    before = (ROOT / "Pulumi.medium.yaml").read_text()
    said = _calibrate(_report(tmp_path, (6.0, 3700.0, 72.0)))
    assert "before" in said and "factors: step " in said
    written = json.loads((tmp_path / "calibration.json").read_text())
    assert written["deployment"].startswith("llama-3.3-70b")
    for figure in ("ttft", "tpot"):
        assert written["median_error_after"][figure] < written["median_error_before"][figure]
    assert (ROOT / "Pulumi.medium.yaml").read_text() == before
    with pytest.raises(FreeholdError, match="has none"):
        _calibrate(_report(tmp_path, (6.0, 3700.0, 72.0), label="local"))


def test_a_calibrated_stack_is_planned_at_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A cluster that decodes 1.3 times slower than the model says, measured at four levels."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "Pulumi.medium.yaml").read_text()
    (tmp_path / "Pulumi.medium.yaml").write_text(text)
    plain = _planned()
    deployment = replica_of(plain)
    assert deployment is not None and plain.predicted
    truth = Factors(step=1.3, prefill=0.9)
    levels = [
        (at, *predict(deployment, Load(24_000, 500, at / plain.replicas, 0.6), truth))
        for at in (2.0, 4.0, 8.0, 16.0)
    ]
    said = _calibrate(_report(tmp_path, *levels), "--write")
    assert "written into Pulumi.medium.yaml" in said
    assert "# " in (tmp_path / "Pulumi.medium.yaml").read_text(), "comments stay"
    found = _planned()
    assert found.predicted
    assert found.predicted.basis == "calibrated: load test of 2026-11-24, 4 levels"
    shown = CliRunner().invoke(plan, ["medium"], catch_exceptions=False).output
    assert "calibrated: load test of 2026-11-24" in " ".join(shown.split())
    demand = plain.demand
    assert demand and demand.concurrency
    load = Load(demand.input_tokens, demand.output_tokens, demand.concurrency, 0.6)
    ttft, tpot = predict(deployment, load, truth)
    assert found.predicted.median_ttft_ms == pytest.approx(ttft, rel=0.03)
    assert found.predicted.median_tpot_ms == pytest.approx(tpot, rel=0.03)
    assert plain.predicted.median_tpot_ms < 0.9 * tpot
    # The simulated engines of a rehearsal run at the same speed.
    assert replica_of(found) == from_json(to_json(replica_of(found) or deployment))
    # Measured again it changes nothing: it is compared with what is planned now.
    again = _calibrate(_report(tmp_path, *levels), "--write").splitlines()
    assert {cell for cell in again[2].split() if "%" in cell} <= {"+0%", "-0%"}


def test_a_calibration_counts_for_what_was_measured_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.medium.yaml").write_text((ROOT / "Pulumi.medium.yaml").read_text())
    plain = _planned()
    _calibrate(_report(tmp_path, (6.0, 3700.0, 172.0)), "--write")
    file = tmp_path / "Pulumi.medium.yaml"
    file.write_text(file.read_text().replace("deployment: llama-3.3-70b", "deployment: llama-2-7b"))
    assert _planned().predicted == plain.predicted
    warnings = make_plan("medium", load_stack("medium", tmp_path)).warnings
    assert any("is of llama-2-7b" in each and "measure again" in each for each in warnings)


def _planned() -> PoolPlan:
    return make_plan("medium", load_stack("medium", Path.cwd())).pools[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--calibrate REPORT"),
        (["--csv", "a", "--calibrate", "b"], "--calibrate REPORT"),
        (["--csv", "a"], "--out FILE"),
        (["--csv", "a", "--out", "b", "--write"], "goes with --calibrate"),
    ],
)
def test_one_thing_at_a_time(arguments: list[str], message: str) -> None:
    with pytest.raises(FreeholdError, match=message):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
