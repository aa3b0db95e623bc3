"""Prometheus's and Grafana's files for a stack on this machine: the same rules and dashboards as anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from freehold.planning.plan import Plan

from .rules import OBSERVABILITY, rule_files
from .scrape import SCRAPE_SECONDS, Target, prometheus_config


def prometheus_files(
    plan: Plan,
    targets: Iterable[Target],
    folder: Path,
    *,
    divisor: float = 1.0,
    scrape_seconds: float = SCRAPE_SECONDS,
) -> dict[str, str]:
    """Path and content of everything that Prometheus reads; `prometheus.yml` is the first.

    A rehearsal divides the windows of all rules and scrapes more often (`freehold.monitoring.rules`).
    """
    rules = rule_files(plan, cluster=False, divisor=divisor, scrape_seconds=scrape_seconds)
    paths = {str(folder / "rules" / f"{name}.yaml"): content for name, content in rules.items()}
    config = prometheus_config(targets, tuple(paths), scrape_seconds)
    files: dict[str, Mapping[str, Any]] = {str(folder / "prometheus.yml"): config, **paths}
    return {path: yaml.safe_dump(content, sort_keys=False) for path, content in files.items()}


def grafana_files(prometheus_url: str, folder: Path, host: str, port: int) -> dict[str, str]:
    """Path and content of everything that Grafana reads; `grafana.ini` is the first.

    Reading needs no login and writing is not possible: there is no password to know."""
    provisioning = folder / "grafana" / "provisioning"
    datasource = {
        "name": "Prometheus",
        "uid": "prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus_url,
        "isDefault": True,
        "jsonData": {"timeInterval": f"{SCRAPE_SECONDS}s"},
    }
    provider = {
        "name": "freehold",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": str(OBSERVABILITY / "dashboards")},
    }
    return {
        str(folder / "grafana" / "grafana.ini"): _ini(folder / "grafana", provisioning, host, port),
        str(provisioning / "datasources" / "prometheus.yaml"): yaml.safe_dump(
            {"apiVersion": 1, "datasources": [datasource]}
        ),
        str(provisioning / "dashboards" / "freehold.yaml"): yaml.safe_dump(
            {"apiVersion": 1, "providers": [provider]}
        ),
    }


def grafana_argv(files: Mapping[str, str]) -> list[str] | None:
    """How to start the Grafana of this machine on `grafana_files`; None where none is installed."""
    for name, words in (("grafana", ["server"]), ("grafana-server", [])):
        if program := shutil.which(name):
            home = next(
                (each for each in _homes(Path(program)) if (each / "public").is_dir()), None
            )
            if home is None:
                return None
            config = next(path for path in files if path.endswith("grafana.ini"))
            return [program, *words, f"--homepath={home}", f"--config={config}"]
    return None


def _homes(program: Path) -> Iterator[Path]:
    """Where Grafana keeps its pages: beside its programs in the archive, else where packages put them."""
    yield program.resolve().parents[1]
    yield Path("/usr/share/grafana")


def _ini(folder: Path, provisioning: Path, host: str, port: int) -> str:
    sections = {
        "paths": {"data": folder / "data", "logs": folder / "logs", "provisioning": provisioning},
        "server": {"http_addr": host, "http_port": port},
        "auth": {"disable_login_form": "true"},
        "auth.anonymous": {"enabled": "true", "org_role": "Viewer"},
        "security": {"disable_initial_admin_creation": "true"},
        "users": {"allow_sign_up": "false"},
        "analytics": {"reporting_enabled": "false", "check_for_updates": "false"},
        "dashboards": {"default_home_dashboard_path": OBSERVABILITY / "dashboards" / "fleet.json"},
    }
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for name, entries in sections.items()
    )
