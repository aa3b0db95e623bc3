"""`freehold load`: the stack's load test, its report, and whether the plan was kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from freehold.config import load_stack
from freehold.load.analysis import Analysis, Context
from freehold.load.compare import labels, print_comparison
from freehold.load.preflight import clean_url
from freehold.load.report import read_report
from freehold.load.report.page import saturation_words
from freehold.load.run import TEST, finish
from freehold.load.server_side import Worker, kept
from freehold.load.stages import SHAPES
from freehold.load.test import read_test
from freehold.planning.plan import make_plan

from .checkout import checkout_root
from .load_run import KINDS, Options, announcement, make_run, pool_of, promise_of


@click.command("load")
@click.argument("stack", default="local")
@click.option(
    "--base-url", help="Where to send requests. A local stack's own gateway when left out."
)
@click.option("--api-key", metavar="KEY", help="The key: itself, @FILE or env:NAME.")
@click.option("--model", help="The model to ask: a pool's name. The first chat pool when left out.")
@click.option("--concurrency", type=click.IntRange(1, 20_000), help="Closed loop: so many users.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Open loop: requests a second."
)
@click.option("--requests", type=click.IntRange(1), help="Stop after so many requests.")
@click.option(
    "--duration", type=click.FloatRange(1), metavar="SECONDS", help="Stop after so many seconds."
)
@click.option("--input-tokens", type=click.IntRange(8), help="Independent prompts of this length.")
@click.option("--output-tokens", type=click.IntRange(1), help="Answers of this length.")
@click.option("--traffic", type=click.Choice(KINDS), help="The tier's own when left out.")
@click.option(
    "--prefix-reuse", type=click.FloatRange(0, 0.99), help="Share of each prompt that all have."
)
@click.option("--shape", type=click.Choice(SHAPES), default="steady", show_default=True)
@click.option(
    "--arrivals",
    "process",
    type=click.Choice(["poisson", "constant", "gamma"]),
    default="poisson",
    show_default=True,
    help="With --rate.",
)
@click.option(
    "--burstiness", type=click.FloatRange(0, min_open=True), default=1.0, help="Of gamma."
)
@click.option("--trace", type=click.Path(path_type=Path), help="Replay the arrivals of a file.")
@click.option("--warmup", type=click.FloatRange(0), metavar="SECONDS", help="Before measuring.")
@click.option("--think", type=click.FloatRange(0), metavar="SECONDS", help="Between two requests.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--timeout", type=click.FloatRange(1), default=600.0, show_default=True)
@click.option("--salt", help="Repeat the texts of the run that had this salt.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="tokenizer.json to count with.")
@click.option("--natural-stop", is_flag=True, help="Let answers end where the model ends them.")
@click.option("--no-self-check", is_flag=True, help="Do not calibrate the generator first.")
@click.option(
    "--engine-metrics", multiple=True, metavar="NAME=URL", help="An engine to read /metrics of."
)
@click.option(
    "--usd-per-hour",
    type=click.FloatRange(0),
    help="What the hardware costs; the plan's if left out.",
)
@click.option(
    "--baseline", type=click.Path(path_type=Path), help="An earlier report to be no worse than."
)
@click.option(
    "--compare",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="REPORT",
    help="Only show reports side by side; once a report.",
)
@click.option(
    "--again",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Only make the report of a folder's records anew.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
def command(
    stack: str,
    compare: tuple[Path, ...],
    again: Path | None,
    baseline: Path | None,
    engine_metrics: tuple[str, ...],
    usd_per_hour: float | None,
    no_self_check: bool,
    out: Path | None,
    **said: Any,
) -> None:
    """Send STACK its load, measure as `vllm bench serve` does, and compare with the plan.

    Without options it is the load that the stack file states, for a minute, against the stack's
    own gateway. DIR gets report.html, report.json and requests.csv.

    Exit code 0: the plan is kept; 1: missed; 2: the test could not be run; 3: it was run, but its
    figures cannot be trusted, and the report says why.
    """
    if compare:
        reports = [read_report(path) for path in compare]
        rows = dict(zip(labels(compare, reports), reports, strict=True))
        print_comparison(rows, Console())
        return
    options = Options(**said, self_check=not no_self_check)
    root = checkout_root()
    plan = make_plan(stack, load_stack(stack, root))
    earlier = read_report(baseline) if baseline else None
    if again:
        test = read_test(again / TEST)
        promise = promise_of(plan, pool_of(plan, test.model), usd_per_hour)
        series = kept(again)
        sys.exit(tell(finish(again, Context(test, promise, series, earlier), series), again))
    workers = [_named(each) for each in engine_metrics] or None
    run = make_run(plan, root, options, out, workers, usd_per_hour)
    click.echo(announcement(run.test))
    series, interrupted = run.drive()
    context = Context(run.test, run.promise, series, earlier, interrupted)
    sys.exit(tell(finish(run.test.out, context, series), run.test.out))


def _named(given: str) -> Worker:
    name, found, url = given.partition("=")
    if not found:
        name, url = given, given
    return Worker(name, clean_url(url).removesuffix("/metrics"))


_SHOWN = (
    ("median_ttft_ms", "median TTFT", "ms"),
    ("median_tpot_ms", "median TPOT", "ms"),
    ("median_itl_ms", "median ITL", "ms"),
    ("output_throughput", "output token throughput", "tok/s"),
    ("total_token_throughput", "total token throughput", "tok/s"),
    ("request_throughput", "request throughput", "req/s"),
    ("max_concurrent_requests", "max concurrent requests", ""),
)


def tell(analysis: Analysis, out: Path) -> int:
    """The figures and the verdict on the screen; returns the exit code."""
    Console().print(_figures(analysis.report))
    return tell_verdict(analysis, out)


def tell_verdict(analysis: Analysis, out: Path) -> int:
    report, console = analysis.report, Console()
    if said := saturation_words(report):
        console.print(said, markup=False)
    for kind, count in report["error_kinds"].items():
        console.print(f"  {count} requests failed: {kind}", markup=False)
    if not analysis.valid:
        console.print("[yellow]INVALID[/yellow]: these figures are not a measurement")
        for reason in report["invalid_reasons"]:
            console.print(f"  - {reason}", markup=False)
    verdict = report["verdict"]
    if analysis.valid:
        console.print("[green]met[/green]" if verdict["met"] else "[red]missed[/red]")
    for check in verdict["checks"]:
        if not check["met"]:
            console.print(
                f"  - {check['metric']} ({check['source']}): {check['measured']:.4g}, limit "
                f"{check['limit']:.4g} {check['note']}",
                markup=False,
            )
    if verdict["reason"]:
        console.print(f"reason: {verdict['reason']}", style="red", markup=False)
    for note in verdict["notes"]:
        console.print(f"  - {note}", markup=False)
    console.print(f"report: {out / 'report.html'}", markup=False)
    return analysis.exit_code


def _figures(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for key, name, unit in _SHOWN:
        table.add_row(name, f"{report[key]:,.2f}" if unit else str(report[key]), unit)
    return table
