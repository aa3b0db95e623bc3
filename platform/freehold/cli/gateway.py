"""`freehold gateway`: only the gateway and its picker, before engines that already run."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from freehold.config import FreeholdError, load_stack
from freehold.config.bedrock import BedrockTarget
from freehold.gateway.model import ApiKey, Gateway
from freehold.local import runtime
from freehold.local.compose import workers_of
from freehold.local.gateway import gateway_of, gateway_processes, keys_of
from freehold.local.home import StackHome
from freehold.local.hosted import hosted_pools
from freehold.local.own_engines import parse_workers, pools_of
from freehold.local.progress import Progress
from freehold.planning.plan import Plan, make_plan

from .checkout import checkout_root
from .secret import secret_from

_LOOK_SECONDS = 2.0


@click.command("gateway")
@click.argument("stack", default="local")
@click.option(
    "--workers",
    multiple=True,
    metavar="POOL=URL[,URL...]",
    help="Engines of a pool, such as chat=http://127.0.0.1:8000; once a pool. Pools that are not "
    "named are left out. The stack's own engines when not given.",
)
@click.option("--port", type=click.IntRange(1024, 65532), help="The stack file's when not given.")
@click.option(
    "--api-key",
    metavar="KEY",
    help="The one key to ask for: itself, @FILE or env:NAME. The stack's own keys when not given.",
)
def command(stack: str, workers: tuple[str, ...], port: int | None, api_key: str | None) -> None:
    """Run only the gateway of STACK and its picker, in the foreground, until Ctrl-C.

    The engines must already run, or come later: the gateway takes each in when it is healthy.
    """
    root = checkout_root()
    plan = make_plan(stack, load_stack(stack, root))
    port = port or plan.gateway.port
    home = StackHome.of(root, stack)
    gateway = _gateway(plan, home, workers, port, api_key)
    folder = root / ".freehold" / f"gateway-{port}"
    with _stopped_by_a_signal():
        try:
            with Progress() as progress:
                runtime.apply([*gateway_processes(gateway, folder)], folder, progress)
            _tell(gateway, "the key given" if api_key else str(home.key_file.relative_to(root)))
            _watch(folder)
        except KeyboardInterrupt:
            sys.exit(130)
        finally:
            runtime.down(folder)


def _gateway(
    plan: Plan, home: StackHome, workers: tuple[str, ...], port: int, api_key: str | None
) -> Gateway:
    given_key = [ApiKey(secret=secret_from(api_key, "--api-key"))] if api_key else None
    home.prepare()
    if isinstance(plan.target, BedrockTarget):
        if workers:
            raise FreeholdError(
                f"stack {plan.stack} has no engines of its own: leave --workers out"
            )
        return gateway_of(plan, hosted_pools(plan), given_key or keys_of(plan, home), port)
    given = parse_workers(plan, workers)
    warnings: list[str] = []
    pools = pools_of(plan, given or workers_of(plan, home), warnings)
    for warning in warnings:
        click.echo(f"note: {warning}")
    return gateway_of(plan, pools, given_key or keys_of(plan, home), port)


def _tell(gateway: Gateway, key: str) -> None:
    click.echo(f"\ngateway at http://{gateway.host}:{gateway.port}/v1, key: {key}")
    for pool in gateway.pools:
        if pool.hosted:
            how, where = "signed", f"{pool.hosted.model} at {pool.hosted.authority}"
        else:
            how, where = pool.policy, ", ".join(worker.address for worker in pool.workers)
        click.echo(f"  {', '.join(pool.names)} ({pool.role}, {how}): {where}")
    engines = "" if all(pool.hosted for pool in gateway.pools) else "; the engines go on"
    click.echo(f"Ctrl-C stops it{engines}.")


def _watch(folder: Path) -> None:
    """Say when a process dies and when it is back; returns when somebody else stopped it."""
    known: dict[str, tuple[bool, int]] = {}
    while rows := runtime.status(folder):
        for row in rows:
            seen = (row.healthy, row.restarts)
            if known.get(row.name, (True, 0)) != seen:
                why = f" ({row.detail})" if row.detail else ""
                click.echo(f"{row.name}: {row.phase}{why}, {row.restarts} restarts so far")
            known[row.name] = seen
        time.sleep(_LOOK_SECONDS)
    raise FreeholdError("the gateway was stopped by another command", exit_code=1)


@contextlib.contextmanager
def _stopped_by_a_signal() -> Iterator[None]:
    """SIGTERM and a closed terminal end it as Ctrl-C does, which a shell may have switched off for what
    it starts in the background."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
