"""From a plan and the options of a load test to the test itself, ready to run."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from freehold.config import FreeholdError
from freehold.config.bedrock import BedrockTarget
from freehold.config.errors import nearest
from freehold.config.stack import Target
from freehold.config.target import LocalTarget
from freehold.load.arrivals import read_trace
from freehold.load.preflight import clean_url, look
from freehold.load.run import run_test
from freehold.load.server_side import Series, Worker
from freehold.load.stages import Shape, stages_of
from freehold.load.test import LoadTest, new_salt
from freehold.load.traffic import Traffic, tier_traffic
from freehold.load.traffic.fitting import fitted
from freehold.load.traffic.prepare import make_texts
from freehold.load.verdict import Promise
from freehold.local.home import StackHome
from freehold.local.status import status
from freehold.planning.plan import Plan, PoolPlan

from .secret import secret_from

# One process sends and reads about this many token events a second before its own queue is measured
# (loadtests/benchmarks/load, 2026-11-24, two shared cores: 29 to 33 microseconds an event; 70 % of a core).
_EVENTS_A_PROCESS = 20_000
KINDS = ("fixed", "chat", "retrieval", "agents", "embed", "rerank")
# A laptop's stack says nothing of its demand.
_CONCURRENCY, _SECONDS = 4, 60.0
# Steps to saturation go so many times beyond the plan's load, unless told how far.
_BEYOND = 4


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


@dataclass(frozen=True)
class Run:
    """A test that is ready, and what its figures will be judged by."""

    test: LoadTest
    key: str | None
    promise: Promise
    locustfile: Path
    workers: Sequence[Worker]
    """Engines that are read while it runs."""

    def drive(self) -> tuple[list[Series], str | None]:
        """Send the load; see `freehold.load.run.run_test`."""
        return run_test(self.test, self.locustfile, self.key, self.workers)


def make_run(
    plan: Plan,
    root: Path,
    options: Options,
    out: Path | None = None,
    workers: Sequence[Worker] | None = None,
    usd_per_hour: float | None = None,
) -> Run:
    """Every mistake shows here: the server is asked, and texts are counted with its tokenizer.

    `workers`: engines to read while it runs; the running local stack's own when left out.
    """
    pool = pool_of(plan, options.model)
    test, key = _test(plan, pool, options, root, out)
    make_texts(test, key)
    locustfile = root / "loadtests" / "tiers" / f"{plan.tier or 'small'}.py"
    if workers is None:
        workers = _workers(plan, root, test)
    return Run(test, key, promise_of(plan, pool, usd_per_hour), locustfile, workers)


def _test(
    plan: Plan, pool: PoolPlan | None, options: Options, root: Path, out: Path | None
) -> tuple[LoadTest, str | None]:
    """The test that the plan and the command line ask for, and the key to send."""
    base_url, key = _where(plan, options, root)
    model = options.model or (pool.name if pool else "")
    served = look(base_url, key, model)
    longest = served.max_model_len or (pool.settings.options.max_model_len if pool else None)
    traffic = _traffic(plan, pool, options).within(longest)
    if options.trace and options.shape != "steady":
        raise FreeholdError("say --trace or --shape, not both: a trace has its own arrivals")
    if options.trace:
        read_trace(options.trace)  # a mistake in it is told now, not by a generator
    _possible(traffic, longest, options)
    level, open_loop = _level(plan, pool, options)
    if options.shape == "step" and options.rate is None and options.concurrency is None:
        level *= _BEYOND
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
        until_saturated=options.shape == "step",
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


def _runs_here(target: Target) -> bool:
    """Its gateway does, whoever serves the models."""
    here = isinstance(target, BedrockTarget) and target.cluster is None
    return here or isinstance(target, LocalTarget)


def _where(plan: Plan, options: Options, root: Path) -> tuple[str, str | None]:
    key = secret_from(options.api_key, "--api-key") if options.api_key else None
    if options.base_url:
        return clean_url(options.base_url), key
    if not _runs_here(plan.target):
        raise FreeholdError(
            f"stack {plan.stack} does not run on this machine: say where with --base-url"
        )
    url = f"http://{plan.gateway.host}:{plan.gateway.port}"
    return url, key or StackHome.of(root, plan.stack).first_key()


def pool_of(plan: Plan, model: str | None) -> PoolPlan | None:
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


def promise_of(plan: Plan, pool: PoolPlan | None, usd_per_hour: float | None) -> Promise:
    price = usd_per_hour if usd_per_hour is not None else plan.cost and plan.cost.usd_per_hour
    if pool is None:
        return Promise(usd_per_hour=price)
    seats = pool.settings.options.max_num_seqs
    return Promise(pool.demand, pool.objectives, pool.predicted, price, seats)


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
        # Only vLLM knows of it: Bedrock's answers end where the model ends them.
        "ignore_eos": not (options.natural_stop or (pool and pool.hosted)),
    }
    if kind in ("embed", "rerank"):
        changed |= {"input_tokens": 128, "documents": 8}  # passages, as vector stores cut them
    names = ("input_tokens", "output_tokens", "prefix_reuse")
    changed |= {n: value for n, value in zip(names, lengths, strict=True) if value is not None}
    if options.output_tokens is not None:
        changed["output_spread"] = 0.0
    return traffic.model_copy(update=changed)


def _possible(traffic: Traffic, longest: int | None, options: Options) -> None:
    asked = (options.input_tokens or 0) + (options.output_tokens or 0)
    if longest is not None and asked > longest:
        raise FreeholdError(
            f"--input-tokens and --output-tokens are {asked} together, but the model takes {longest}"
        )
    if options.rate is None:
        return
    events = options.rate * (traffic.output_tokens if traffic.kind not in KINDS[-2:] else 1)
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
    if pool and pool.hosted:
        return pool.hosted.requests_per_minute / 60, True
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


def announcement(test: LoadTest) -> str:
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
