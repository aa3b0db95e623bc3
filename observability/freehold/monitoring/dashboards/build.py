"""From a dashboard's description to Grafana's JSON, through Grafana's own typed builders."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from ..rules import OBSERVABILITY
from .spec import Dashboard, Panel, Query, Row, Variable

DASHBOARDS = OBSERVABILITY / "dashboards"
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="prometheus")
# Every dashboard carries it; the links at the top lead to all that do.
TAG = "freehold"
# Grafana's word for the value of the cell that is clicked on, and the page that it leads to.
CHOSEN_ALERT = "${__value.text}"
RUNBOOK = f"docs/runbooks/{CHOSEN_ALERT}.md"
_HEIGHT = 8


def to_json(page: Dashboard) -> str:
    """Grafana's JSON model, ready for provisioning."""
    built = _page(page).build()
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


def _page(page: Dashboard) -> dashboard.Dashboard:
    links = dashboard.DashboardLink("Freehold").type(models.DashboardLinkType.DASHBOARDS)
    built = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.meaning)
        .tags([TAG])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(links.tags([TAG]).as_dropdown(False).keep_time(True).include_vars(True))
    )
    for variable in page.variables:
        built = built.with_variable(_variable(variable))
    for row in page.rows:
        built = _add_row(built, row)
    return built


def _add_row(built: dashboard.Dashboard, row: Row) -> dashboard.Dashboard:
    built = built.with_row(dashboard.Row(row.title))
    for panel in row.panels:
        built = built.with_panel(_panel(panel).span(panel.width).height(_HEIGHT))
    return built


def _variable(variable: Variable) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.name)
        .query(f"label_values({variable.series}, {variable.label})")
        .datasource(DATASOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel) -> Any:
    built = {"stat": _stat, "lines": _lines, "table": _table}[panel.kind](panel)
    built = built.title(panel.title).description(panel.meaning).datasource(DATASOURCE)
    built = built.unit(panel.unit).min(0)
    if panel.most is not None:
        built = built.max(panel.most)
    for place, query in enumerate(panel.queries):
        built = built.with_target(_query(query, chr(ord("A") + place), panel))
    return built


def _query(query: Query, ref: str, panel: Panel) -> prometheus.Dataquery:
    built = prometheus.Dataquery().ref_id(ref).expr(query.expression).datasource(DATASOURCE)
    if panel.kind == "table":
        return built.instant().format(PromQueryFormat.TABLE)
    built = built.legend_format(query.legend)
    return built.instant() if panel.kind == "stat" else built.range()


def _stat(panel: Panel) -> stat.Panel:
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(reduce).thresholds(_thresholds(panel))


def _lines(panel: Panel) -> timeseries.Panel:
    built = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(5)
        .show_points(common_models.VisibilityMode.NEVER)
        .thresholds(_thresholds(panel))
    )
    for place, query in enumerate(panel.queries):
        if query.is_plan:
            dashed = {"fill": "dash", "dash": [10, 10]}
            built = built.override_by_query(
                chr(ord("A") + place), [models.DynamicConfigValue("custom.lineStyle", dashed)]
            )
    return built


def _table(_: Panel) -> table.Panel:
    runbook = {"title": "Runbook", "url": RUNBOOK, "targetBlank": True}
    return table.Panel().override_by_name(
        "alertname", [models.DynamicConfigValue("links", [runbook])]
    )


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [
        models.Threshold(value=None if place == 0 else value, color=color)
        for place, (value, color) in enumerate(panel.steps)
    ]
    steps = steps or [models.Threshold(value=None, color="green")]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
