"""`freehold up`: a stack as real processes on this machine."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console

from freehold.config import FreeholdError, load_stack
from freehold.config.bedrock import BedrockTarget
from freehold.config.target import LocalTarget
from freehold.local.bring_up import bring_up, bring_up_hosted, bring_up_simulated
from freehold.local.home import StackHome
from freehold.local.models import LocalModel
from freehold.planning.plan import Plan, make_plan

from .checkout import checkout_root
from .smoke import run_smoke


@click.command("up")
@click.argument("stack", default="local")
@click.option(
    "--engine",
    type=click.Choice(["vllm", "simulated"]),
    help="What runs a replica: the real engine on this machine's CPU, or a simulated one at the "
    "speed that the plan predicts for its GPUs. The stack file's choice when not given.",
)
@click.option("--smoke/--no-smoke", default=True, help="End with the smoke test.")
def command(stack: str, engine: str | None, smoke: bool) -> None:
    """Bring STACK up on this machine, or change what runs to match its file.

    Exit code 0: it runs and every endpoint answered; 1: an endpoint did not; 2: refused, with the
    reason; nothing is left half done.
    """
    root = checkout_root()
    plan = make_plan(stack, load_stack(stack, root))
    start = bring_up
    if isinstance(plan.target, BedrockTarget):
        if engine:
            raise FreeholdError(f"stack {stack} runs no engine, Bedrock does: leave --engine out")
        start = bring_up_hosted
    elif isinstance(plan.target, LocalTarget):
        engine = engine or plan.target.engine
    elif engine != "simulated":
        raise FreeholdError(
            f"stack {stack} is for {plan.target.kind}, not for this machine: `freehold up {stack} "
            "--engine simulated` runs it here with simulated engines"
        )
    home = StackHome.of(root, stack)
    console = Console()
    started = time.monotonic()
    if engine == "simulated":
        start = bring_up_simulated
    models = start(plan, home, click.echo)
    console.print(f"up in {time.monotonic() - started:.0f} s\n")
    passed = run_smoke(plan, home) if smoke else True
    _tell(console, plan, home, models)
    sys.exit(0 if passed else 1)


def _tell(console: Console, plan: Plan, home: StackHome, models: dict[str, LocalModel]) -> None:
    """How to use what now runs: models, address, key, and two examples that work as they are."""
    console.print("\n[bold]Models[/bold]")
    for pool in plan.pools:
        note = models[pool.name].note
        count = "" if pool.hosted else f", {pool.replicas}x"
        console.print(f"  {pool.name} ({pool.role}{count}): {note}", soft_wrap=True)
    base_url = f"http://{plan.gateway.host}:{plan.gateway.port}/v1"
    key_file = home.key_file.relative_to(home.root)
    console.print("\n[bold]Use it[/bold]")
    console.print(f"  base URL  {base_url}\n  key file  {key_file}")
    if plan.observability.prometheus:
        console.print(f"  metrics   http://127.0.0.1:{plan.observability.prometheus.port}")
    chat = next((pool.name for pool in plan.pools if pool.role == "generate"), None)
    if chat:
        # Plain print: these are for copying, so no wrapping and no colours.
        print(_EXAMPLES.format(base_url=base_url, key_file=key_file, model=chat))
    console.print(f"  stop      make down{'' if plan.stack == 'local' else f' STACK={plan.stack}'}")


_EXAMPLES = """
curl -N {base_url}/chat/completions \\
  -H "Authorization: Bearer $(cat {key_file})" -H 'Content-Type: application/json' \\
  -d '{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'

from openai import OpenAI  # pip install openai

client = OpenAI(base_url="{base_url}", api_key=open("{key_file}").read().strip())
for chunk in client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Hello"}}], stream=True
):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""
