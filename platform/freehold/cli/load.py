"""`freehold load`: the stack's load test, its report, and whether the plan was kept."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError, load_stack
from freehold.config.errors import nearest
from freehold.config.target import LocalTarget
from freehold.load.analysis import Analysis, Context
from freehold.load.arrivals import read_trace
from freehold.load.compare import comparison, labels
from freehold.load.preflight import clean_url, look
from freehold.load.report import read_report
from freehold.load.run import TEST, finish, run_test
from freehold.load.server_side import Worker
from freehold.load.stages import SHAPES, Shape, stages_of
from freehold.load.test import LoadTest, new_salt
from freehold.load.traffic import Traffic, tier_traffic
from freehold.load.traffic.fitting import fitted
from freehold.load.traffic.prepare import make_texts
from freehold.load.verdict import Promise
from freehold.local.home import StackHome
from freehold.local.status import status
from freehold.planning.plan import Plan, PoolPlan, make_plan

from .checkout import checkout_root
from .secret import secret_from

# One process sends and reads about this many token events a second before its own queue is measured
# (loadtests/benchmarks/load, 2026-11-24, two shared cores: 29 to 33 microseconds an event; 70 % of a core).
_EVENTS_A_PROCESS = 20_000
_KINDS = ("fixed", "chat", "retrieval", "agents", "embed", "rerank")
# A laptop's stack says nothing of its demand.
_CONCURRENCY, _SECONDS = 4, 60.0


@dataclass(frozen=True)
class Options:
    """What was said of the test; None: not said."""

    base_url: str | None = None
    api_key: str | None = None
    model: str | None = None
    concurrency: int | None = None
    rate: float | None = None
    requests: int | None = None
    duration: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    traffic: str | None = None
    prefix_reuse: float | None = None
    shape: Shape = "steady"
    process: str = "poisson"
    burstiness: float = 1.0
    trace: Path | None = None
    warmup: float | None = None
    processes: int = 1
    think: float | None = None
    timeout: float = 600.0
    salt: str | None = None
    tokenizer: Path | None = None
    natural_stop: bool = False
    self_check: bool = True


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
@click.option("--traffic", type=click.Choice(_KINDS), help="The tier's own when left out.")
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
        Console(width=max(Console().width, 150)).print(comparison(rows))
        return
    options = Options(**said, self_check=not no_self_check)
    root = checkout_root()
    plan = make_plan(stack, load_stack(stack, root))
    earlier = read_report(baseline) if baseline else None
    if again:
        test = LoadTest.model_validate_json((again / TEST).read_bytes())
        promise = _promise(plan, _pool(plan, test.model), usd_per_hour)
        sys.exit(_tell(finish(again, Context(test, promise, baseline=earlier), ()), again))
    workers = [_named(each) for each in engine_metrics] or None
    sys.exit(run_load(plan, root, options, out, workers, usd_per_hour, earlier))


def run_load(
    plan: Plan,
    root: Path,
    options: Options,
    out: Path | None = None,
    workers: Sequence[Worker] | None = None,
    usd_per_hour: float | None = None,
    baseline: Mapping[str, Any] | None = None,
) -> int:
    """Test, report, verdict; returns the exit code. For `freehold rehearse` as well.

    `workers`: engines to read while it runs; the running local stack's own when left out.
    """
    pool = _pool(plan, options.model)
    promise = _promise(plan, pool, usd_per_hour)
    test, key = _test(plan, pool, options, root, out)
    make_texts(test, key)  # counts the texts with the model's tokenizer, once; mistakes show here
    locustfile = root / "loadtests" / "tiers" / f"{plan.tier or 'small'}.py"
    if workers is None:
        workers = _workers(plan, root, test)
    click.echo(_announcement(test))
    series, interrupted = run_test(test, locustfile, key, workers)
    context = Context(test, promise, series, baseline, interrupted)
    return _tell(finish(test.out, context, series), test.out)


def _test(
    plan: Plan, pool: PoolPlan | None, options: Options, root: Path, out: Path | None
) -> tuple[LoadTest, str | None]:
    """The test that the plan and the command line ask for, and the key to send."""
    base_url, key = _where(plan, options, root)
    model = options.model or (pool.name if pool else "")
    served = look(base_url, key, model)
    longest = served.max_model_len or (pool.settings.options.max_model_len if pool else None)
    traffic = _traffic(plan, pool, options).within(longest)
    if options.trace:
        read_trace(options.trace)  # a mistake in it is told now, not by a generator
    _possible(traffic, longest, options)
    level, open_loop = _level(plan, pool, options)
    seconds = None if options.requests else options.duration or _SECONDS
    if options.requests and options.duration:
        raise FreeholdError("say --requests or --duration, not both")
    if seconds is None and options.shape != "steady":
        raise FreeholdError(f"--shape {options.shape} has stages in time: say --duration")
    warmup = options.warmup
    if warmup is None:
        warmup = 0.0 if seconds is None else min(30.0, seconds / 6)
    test = LoadTest(
        base_url=base_url,
        model=model,
        out=out or Path(time.strftime("load-%Y%m%d-%H%M%S")),
        corpora=root / ".freehold" / "corpora",
        stack=plan.stack,
        traffic=traffic,
        stages=stages_of(options.shape, level, open_loop, seconds, warmup),
        requests=options.requests,
        open_loop=open_loop,
        process=options.process,  # type: ignore[arg-type]
        burstiness=options.burstiness,
        trace=options.trace.resolve() if options.trace else None,
        processes=options.processes,
        warm_users=seconds is None and not open_loop and options.warmup != 0,
        salt=options.salt or new_salt(),
        timeout=options.timeout,
        tokenizer=options.tokenizer.resolve() if options.tokenizer else None,
        max_model_len=longest,
        self_check=options.self_check,
    )
    return test, key


def _where(plan: Plan, options: Options, root: Path) -> tuple[str, str | None]:
    key = secret_from(options.api_key, "--api-key") if options.api_key else None
    if options.base_url:
        return clean_url(options.base_url), key
    if not isinstance(plan.target, LocalTarget):
        raise FreeholdError(
            f"stack {plan.stack} does not run on this machine: say where with --base-url"
        )
    url = f"http://{plan.gateway.host}:{plan.gateway.port}"
    return url, key or StackHome.of(root, plan.stack).first_key()


def _pool(plan: Plan, model: str | None) -> PoolPlan | None:
    """The pool that serves the model; None for a model that the stack does not know."""
    if model is None:
        return next((pool for pool in plan.pools if pool.role == "generate"), plan.pools[0])
    names = {
        name: pool for pool in plan.pools for name in (pool.name, *pool.aliases, *pool.adapters)
    }
    if model not in names:
        hint = nearest(model, names)
        click.echo(f"note: stack {plan.stack} has no model {model}{hint}: nothing to compare with")
    return names.get(model)


def _promise(plan: Plan, pool: PoolPlan | None, usd_per_hour: float | None) -> Promise:
    price = usd_per_hour if usd_per_hour is not None else plan.cost and plan.cost.usd_per_hour
    if pool is None:
        return Promise(usd_per_hour=price)
    return Promise(pool.demand, pool.objectives, pool.predicted, price)


def _traffic(plan: Plan, pool: PoolPlan | None, options: Options) -> Traffic:
    """The tier's pattern at the demand's lengths; the command line's word comes first."""
    side = {role: p.name for p in plan.pools for role in ("embed", "rerank") if p.role == role}
    traffic = tier_traffic(plan.tier)
    if pool and pool.demand:
        traffic = fitted(traffic, pool.demand)
    kind = options.traffic
    if kind is None and pool and pool.role != "generate":
        kind = pool.role
    lengths = (options.input_tokens, options.output_tokens, options.prefix_reuse)
    if kind is None and options.input_tokens:
        kind = "fixed"
    changed: dict[str, Any] = {
        "kind": kind or traffic.kind,
        "think_seconds": options.think or 0.0,
        "embed_model": side.get("embed"),
        "rerank_model": side.get("rerank"),
        "ignore_eos": not options.natural_stop,
    }
    if kind in ("embed", "rerank"):
        changed |= {"input_tokens": 128, "documents": 8}  # passages, as vector stores cut them
    names = ("input_tokens", "output_tokens", "prefix_reuse")
    changed |= {n: value for n, value in zip(names, lengths, strict=True) if value is not None}
    return traffic.model_copy(update=changed)


def _possible(traffic: Traffic, longest: int | None, options: Options) -> None:
    asked = (options.input_tokens or 0) + (options.output_tokens or 0)
    if longest is not None and asked > longest:
        raise FreeholdError(
            f"--input-tokens and --output-tokens are {asked} together, but the model takes {longest}"
        )
    if options.rate is None:
        return
    events = options.rate * (traffic.output_tokens if traffic.kind not in _KINDS[-2:] else 1)
    needed = int(events / _EVENTS_A_PROCESS) + 1
    if needed > options.processes:
        cores = os.cpu_count() or 1
        hint = f"--processes {needed}" if needed <= cores else "the cluster's load test job"
        raise FreeholdError(
            f"--rate {options.rate:g} with answers of {traffic.output_tokens} tokens is "
            f"{events:,.0f} token events a second; a process reads about {_EVENTS_A_PROCESS:,}, this "
            f"machine has {cores} cores: use {hint}, or a rate of at most "
            f"{_EVENTS_A_PROCESS * options.processes / max(events / options.rate, 1):,.0f}"
        )


def _level(plan: Plan, pool: PoolPlan | None, options: Options) -> tuple[float, bool]:
    """Users of a closed loop, or requests a second of an open one."""
    if options.rate is not None and options.concurrency is not None:
        raise FreeholdError("say --concurrency (closed loop) or --rate (open loop), not both")
    if options.trace is not None:
        return options.rate or 1.0, True
    if options.rate is not None:
        return options.rate, True
    if options.concurrency is not None:
        return float(options.concurrency), False
    if pool and pool.predicted:
        return float(max(1, round(pool.predicted.concurrency))), False
    if pool and pool.demand and (pool.demand.concurrency or pool.demand.users):
        return float(max(1, round(pool.demand.concurrency or pool.demand.users or 1))), False
    return float(_CONCURRENCY), False


def _workers(plan: Plan, root: Path, test: LoadTest) -> list[Worker]:
    """The engines of the running local stack, if the load goes to it."""
    rows = status(StackHome.of(root, plan.stack).folder)
    ours = {
        f"http://{host}:{plan.gateway.port}"
        for host in (plan.gateway.host, "localhost", "127.0.0.1")
    }
    if test.base_url not in ours:
        return []
    pools = {pool.name for pool in plan.pools if pool.role == "generate"}
    return [Worker(row.name, row.url.rstrip("/")) for row in rows if row.url and row.pool in pools]


def _named(given: str) -> Worker:
    name, found, url = given.partition("=")
    if not found:
        name, url = given, given
    return Worker(name, clean_url(url).removesuffix("/metrics"))


def _announcement(test: LoadTest) -> str:
    traffic = test.traffic or tier_traffic(None)
    parts = [f"{stage.name} {stage.concurrency or stage.rate:g}" for stage in test.stages]
    unit = "requests a second" if test.open_loop else "in flight"
    length = (
        f"{test.requests} requests"
        if test.requests
        else f"{test.seconds:.0f} s"
        if test.seconds
        else "the trace"
    )
    return (
        f"load test of {test.model} at {test.base_url}: {traffic.kind} traffic, "
        f"{', '.join(parts)} {unit}, {length}"
    )


_SHOWN = (
    ("median_ttft_ms", "median TTFT", "ms"),
    ("median_tpot_ms", "median TPOT", "ms"),
    ("median_itl_ms", "median ITL", "ms"),
    ("output_throughput", "output token throughput", "tok/s"),
    ("total_token_throughput", "total token throughput", "tok/s"),
    ("request_throughput", "request throughput", "req/s"),
    ("max_concurrent_requests", "max concurrent requests", ""),
)


def _tell(analysis: Analysis, out: Path) -> int:
    """The figures and the verdict on the screen; returns the exit code."""
    report, console = analysis.report, Console()
    console.print(_figures(report))
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
