"""The laptop's Prometheus takes the same rules, evaluates every one, and Grafana the same dashboards."""

from __future__ import annotations

import configparser
from pathlib import Path

import httpx
import pytest
import yaml
from gateway.running import until
from serving.programs import plan_of

from freehold.monitoring.on_this_machine import grafana_argv, grafana_files, prometheus_files
from freehold.monitoring.rules import all_rules
from freehold.monitoring.scrape import Target

from .promtool import promtool
from .real_prometheus import free_address, running


def _write(files: dict[str, str]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)


@pytest.mark.parametrize("stack", ["local", "small", "large"])
def test_promtool_takes_the_configuration(stack: str, tmp_path: Path) -> None:
    targets = [Target("engine", "127.0.0.1:1", pool="chat", worker="chat-0")]
    files = prometheus_files(plan_of(stack), targets, tmp_path)
    _write(files)
    done = promtool("check", "config", next(iter(files)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cluster" not in {Path(name).stem for name in files}, "there is no Alertmanager here"


def test_a_real_prometheus_evaluates_every_rule(tmp_path: Path) -> None:
    """With a second of a rehearsal for a minute."""
    address = free_address()
    targets = [Target("prometheus", address)]
    files = prometheus_files(plan_of("small"), targets, tmp_path, divisor=60, scrape_seconds=1.0)
    _write(files)
    with running(next(iter(files)), address, tmp_path / "data"):
        api = f"http://{address}/api/v1"

        def evaluated() -> list[dict] | None:
            groups = httpx.get(f"{api}/rules").json()["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            return None if any(rule["health"] == "unknown" for rule in rules) else rules

        rules = until(evaluated, seconds=60)
        assert [
            (rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"
        ] == []
        only_on_clusters = 2
        plans = sum(rule["name"].startswith("plan:") for rule in rules)
        assert len(rules) == len(all_rules()) - only_on_clusters + plans
        planned = plan_of("small").cost
        assert planned is not None
        query = f"{api}/query?query=stack:usd_per_hour"
        # The groups are not evaluated in order: a later round has what the first one lacked.
        (sample,) = until(lambda: httpx.get(query).json()["data"]["result"])
        assert float(sample["value"][1]) == pytest.approx(planned.usd_per_hour, abs=1e-4)


def test_grafana_reads_the_committed_dashboards_and_asks_for_no_password(tmp_path: Path) -> None:
    files = grafana_files("http://127.0.0.1:9091", tmp_path, "127.0.0.1", 9092)
    ini = configparser.ConfigParser()
    ini.read_string(next(content for name, content in files.items() if name.endswith(".ini")))
    assert ini["auth.anonymous"]["org_role"] == "Viewer"
    assert ini["security"]["disable_initial_admin_creation"] == "true"
    assert ini["server"]["http_addr"] == "127.0.0.1"
    provider = yaml.safe_load(files[f"{tmp_path}/grafana/provisioning/dashboards/freehold.yaml"])
    folder = Path(provider["providers"][0]["options"]["path"])
    assert len(list(folder.glob("*.json"))) == 7
    source = yaml.safe_load(files[f"{tmp_path}/grafana/provisioning/datasources/prometheus.yaml"])
    assert source["datasources"][0]["uid"] == "prometheus"


def test_grafana_is_started_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = grafana_files("http://127.0.0.1:9091", tmp_path, "127.0.0.1", 9092)
    monkeypatch.setenv("PATH", str(tmp_path / "opt" / "bin"))
    assert grafana_argv(files) is None
    (tmp_path / "opt" / "public").mkdir(parents=True)
    program = tmp_path / "opt" / "bin" / "grafana"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    argv = grafana_argv(files)
    assert argv is not None
    assert argv[:3] == [str(program), "server", f"--homepath={tmp_path / 'opt'}"]
