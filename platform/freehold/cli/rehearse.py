"""`freehold rehearse`: a stack's full topology here, under its own load, with a verdict on its plan."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.table import Table

from freehold.config import FreeholdError, load_stack
from freehold.load.analysis import Analysis, Context
from freehold.load.run import finish
from freehold.load.server_side import Series, Worker
from freehold.local import runtime
from freehold.local.alerts import AlertWatch
from freehold.local.bring_up import bring_up_simulated
from freehold.local.compose import engines_of
from freehold.local.faults import Site, refuse_impossible
from freehold.local.gateway import HOST
from freehold.local.home import StackHome
from freehold.planning.plan import Plan, PoolPlan, make_plan

from .checkout import checkout_root
from .load import tell_verdict
from .load_run import Options, Run, announcement, make_run
from .rehearse_faults import (
    AFTER,
    LASTS,
    Injector,
    Planned,
    alerts_table,
    what_happened,
    with_bursts,
)

# So that each tier's rehearsal ends within four minutes, start and last answers included.
_WARM_SECONDS = (8.0, 35.0)
_MEASURED_SECONDS = (30.0, 90.0)
# Answers that one client should give in the measured time: two conversations of three turns.
_ROUNDS = 6.0
# Share of the time that this machine may lose before the figures count for nothing.
_TOLERATED = 0.01
# Five minutes are fifteen seconds: alerts fire and resolve within a rehearsal.
_DIVISOR = 20.0
# The longest of the windows that a fast alert waits for to be clean is half an hour, here 90 s.
_SECONDS_TO_RESOLVE = 1800 / _DIVISOR + 15.0


@click.command("rehearse")
@click.argument("stack")
@click.option(
    "--load",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="So many times the stack's demand.",
)
@click.option(
    "--demand-of",
    metavar="STACK",
    help="The load and objectives of another stack: can this one carry them?",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME@SECOND",
    help="kill-worker, slow-worker, stop-redis, fill-kv or burst, in that second of the measured time.",
)
@click.option(
    "--duration",
    type=click.FloatRange(10),
    metavar="SECONDS",
    help="Measured time; two conversations of each user when left out.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
def command(
    stack: str,
    load: float,
    demand_of: str | None,
    faults: tuple[str, ...],
    duration: float | None,
    out: Path | None,
) -> None:
    """Bring STACK up on this machine with simulated engines, send it its own load, compare what is
    measured with the plan, and take everything down.

    DIR gets report.html, report.json and requests.csv, as from `freehold load`; of several chat pools
    each in a folder of its name.

    Exit code 0: the plan was kept; 1: it was missed, with the reason; 2: refused; 3: this machine was
    too slow for the measurement to mean anything.
    """
    root = checkout_root()
    plan = make_plan(stack, load_stack(stack, root))
    if demand_of:
        plan = _under(plan, make_plan(demand_of, load_stack(demand_of, root)))
    pools = _driven(plan)
    planned = [Planned.read(fault) for fault in faults]
    for each in planned:
        refuse_impossible(each.name, plan)
        if duration is not None and each.second >= duration:
            raise FreeholdError(
                f"--fault {each.name}@{each.second:g} is after --duration {duration:g}"
            )
    wish = _Wish(load, planned, duration)
    home = StackHome.of(root, stack)
    out = out or Path(time.strftime("load-%Y%m%d-%H%M%S"))
    divisor = _DIVISOR if planned else 1.0
    try:
        if planned:
            _forget(home)
        started = time.monotonic()
        bring_up_simulated(plan, home, click.echo, divisor)
        click.echo(f"up in {time.monotonic() - started:.0f} s")
        runs = []
        for pool in pools:
            folder = out / pool.name if len(pools) > 1 else out
            run = make_run(
                plan, root, _options(plan, pool, home, wish), folder, _workers(plan, pool, home)
            )
            runs.append(replace(run, test=with_bursts(run.test, planned)) if planned else run)
        analyses = _rehearse(plan, pools[0], home, runs, planned)
    finally:
        runtime.down(home.folder)
    codes = []
    for run, analysis in zip(runs, analyses, strict=True):
        _console().print(_beside_the_plan(run, analysis))
        codes.append(tell_verdict(analysis, run.test.out))
    sys.exit(max(codes))


def _forget(home: StackHome) -> None:
    """What an earlier rehearsal left in Prometheus would fire alerts of its own."""
    runtime.down(home.folder)
    shutil.rmtree(home.folder / "prometheus", ignore_errors=True)


def _driven(plan: Plan) -> list[PoolPlan]:
    """Chat pools that promise something; embeddings and rerank come with a retrieval client's chat."""
    pools = [p for p in plan.pools if p.role == "generate" and p.demand and p.predicted]
    if not pools:
        raise FreeholdError(
            f"stack {plan.stack} cannot be rehearsed: none of its chat pools says its demand "
            "(pools[].demand) and has a predicted speed to compare with"
        )
    return pools


def _under(plan: Plan, other: Plan) -> Plan:
    """The plan with what another one promises for the pools of the same names."""
    promised = {pool.name: pool for pool in _driven(other)}
    pools = list(plan.pools)
    for place, pool in enumerate(pools):
        if (its := promised.pop(pool.name, None)) is None:
            continue
        demand, longest = its.demand, pool.settings.options.max_model_len
        if demand and longest and demand.input_tokens + demand.output_tokens > longest:
            raise FreeholdError(
                f"--demand-of {other.stack}: its requests of {demand.input_tokens:,} and "
                f"{demand.output_tokens:,} tokens do not fit into {plan.stack}'s context of {longest:,}"
            )
        pools[place] = replace(
            pool, demand=demand, objectives=its.objectives, predicted=its.predicted
        )
    if promised:
        raise FreeholdError(
            f"--demand-of {other.stack}: stack {plan.stack} has no pool {', '.join(promised)}"
        )
    return replace(plan, pools=tuple(pools))


@dataclass(frozen=True)
class _Wish:
    """What the command line asks for."""

    load: float
    planned: Sequence[Planned]
    duration: float | None

    def measured_seconds(self, lifetime: float) -> float:
        """Enough for the faults and for some answers; `lifetime` is that of one request."""
        faults = max((fault.second + LASTS + AFTER for fault in self.planned), default=0.0)
        return self.duration or max(faults, _between(_MEASURED_SECONDS, _ROUNDS * lifetime))


def _options(plan: Plan, pool: PoolPlan, home: StackHome, wish: _Wish) -> Options:
    demand, predicted = pool.demand, pool.predicted
    assert demand and predicted
    tokens = demand.output_tokens
    alone = (predicted.median_ttft_ms + tokens * predicted.median_tpot_ms) / 1e3
    lifetime = alone * max(1.0, wish.load)
    return Options(
        base_url=f"http://{plan.gateway.host}:{plan.gateway.port}",
        api_key=home.first_key(),
        model=pool.name,
        concurrency=max(1, round(predicted.concurrency * wish.load)),
        warmup=_between(_WARM_SECONDS, lifetime),
        duration=wish.measured_seconds(lifetime),
    )


def _workers(plan: Plan, pool: PoolPlan, home: StackHome) -> list[Worker]:
    """Its engines, of both kinds where some read and others write."""
    return [
        Worker(engine.name, f"http://{HOST}:{engine.port}", reads=engine.part != "decode")
        for engine in engines_of(plan, home)
        if engine.pool.name == pool.name
    ]


def _between(limits: tuple[float, float], seconds: float) -> float:
    return min(max(seconds, limits[0]), limits[1])


def _rehearse(
    plan: Plan, pool: PoolPlan, home: StackHome, runs: Sequence[Run], planned: Sequence[Planned]
) -> list[Analysis]:
    """All pools at once, as they would be in truth; faults are the first one's."""
    for run in runs:
        click.echo(announcement(run.test))
    if not planned:
        return _drive(runs)
    records = runs[0].test.out
    prometheus = plan.observability.prometheus
    watch = AlertWatch(f"http://127.0.0.1:{prometheus.port}").start() if prometheus else None
    injector = Injector(Site(plan, pool, home), planned, records).start()
    try:
        analyses = _drive(runs)
    finally:
        episodes = injector.stop()
    if not episodes:
        raise FreeholdError("the load ended before a fault could be put in")
    for word in (word for episode in episodes for word in episode.words):
        click.echo(f"  {word}")
    if watch:
        watch.quiet_within(_SECONDS_TO_RESOLVE)
        fired = alerts_table(watch.stop(), episodes)
        click.echo(f"\nalerts, with windows divided by {_DIVISOR:g}; seconds after the first fault")
        _console().print(fired or "none fired")
    click.echo("\nwhat happened to requests")
    _console().print(what_happened(records, episodes))
    return analyses


def _drive(runs: Sequence[Run]) -> list[Analysis]:
    with ThreadPoolExecutor(max_workers=len(runs)) as threads:
        found = list(threads.map(Run.drive, runs))
    return [_judged(run, *each) for run, each in zip(runs, found, strict=True)]


def _judged(run: Run, series: list[Series], interrupted: str | None) -> Analysis:
    spoilt = _late(run)
    context = Context(run.test, run.promise, series, interrupted=interrupted, spoilt=spoilt)
    return finish(run.test.out, context, series)


def _late(run: Run) -> str | None:
    """Whether the engines' clocks stood still for a part of the time that could be seen in a median."""
    late = 0.0
    for worker in run.workers:
        with suppress(httpx.HTTPError, ValueError):  # one that was killed on purpose
            answer = httpx.get(f"{worker.url}/simulator/clock", timeout=5, trust_env=False)
            late = max(late, float(answer.json()["late_seconds"]))
    if late <= _TOLERATED * (run.test.seconds or 0.0):
        return None
    return f"this machine could not keep the engines' time: they fell {late:.1f} s behind"


def _console() -> Console:
    return Console(width=max(Console().width, 100))


_METRICS = (
    ("median_ttft_ms", "median TTFT, ms"),
    ("median_tpot_ms", "median TPOT, ms"),
    ("median_itl_ms", "median ITL, ms"),
    ("output_throughput", "output tokens/s"),
    ("total_token_throughput", "all tokens/s"),
    ("request_throughput", "requests/s"),
    ("max_concurrent_requests", "most in flight"),
)


def _beside_the_plan(run: Run, analysis: Analysis) -> Table:
    """The seven metrics as planned and as rehearsed; rates are without the last answers' tail."""
    report, promise = analysis.report, run.promise
    title = f"\n{run.test.model}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("", "planned", "rehearsed", "difference", "objective"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name, label in _METRICS:
        planned, got = getattr(promise.predicted, name), report["steady"].get(name, report[name])
        wanted = getattr(promise.objectives, name, None)
        table.add_row(
            label,
            f"{planned:,.1f}",
            f"{got:,.1f}",
            f"{got / planned - 1:+.0%}" if planned else "",
            f"{wanted:,.0f}" if wanted else "",
        )
    return table
