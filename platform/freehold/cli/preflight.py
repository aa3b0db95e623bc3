"""`freehold preflight`: whether the AWS account can carry a stack, before anything is created."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from freehold.config import FreeholdError, load_stack
from freehold.config.bedrock import BedrockTarget
from freehold.config.target import EksTarget

from .checkout import checkout_root

if TYPE_CHECKING:
    from freehold.cluster.preflight import Finding, Need
    from freehold.planning.plan import Plan

_MARKS = {True: "ok  ", False: "NO  ", None: "?   "}


@click.command("preflight")
@click.argument("stack")
@click.option("--offline", is_flag=True, help="Only say what must be true; ask nobody.")
def command(stack: str, offline: bool) -> None:
    """Say what STACK needs of its AWS account, and check it where there are credentials.

    Quotas, capacity reservations, zones that have the machines, free addresses; of a Bedrock stack
    whether its models can be invoked. Only reads. Exit
    code 0: all of it is there, or nobody could be asked; 1: something is missing.
    """
    from freehold.planning.plan import make_plan

    wanted = load_stack(stack, checkout_root())
    target = wanted.target
    if not isinstance(target, EksTarget | BedrockTarget):
        raise FreeholdError(
            f"stack {stack} has target.kind {target.kind}: preflight is about an AWS account"
        )
    cluster = target if isinstance(target, EksTarget) else target.cluster
    session = None if offline else session_with_credentials((cluster or target).region)
    if session is None:
        click.echo("no AWS credentials were used; what must be true:\n")
    findings = [_show(need, session) for need in _needs(make_plan(stack, wanted), cluster)]
    raise SystemExit(1 if any(finding.met is False for finding in findings if session) else 0)


def _needs(plan: Plan, cluster: EksTarget | None) -> list[Need]:
    from freehold.cluster.bedrock_preflight import bedrock_needs
    from freehold.cluster.preflight import needs

    return [*bedrock_needs(plan), *(needs(plan, cluster) if cluster else [])]


def session_with_credentials(region: str) -> Any | None:
    """A session with credentials, or None."""
    import boto3

    session = boto3.Session(region_name=region)
    return session if session.get_credentials() else None


def _show(need: Need, session: Any | None) -> Finding:
    finding = _asked(need, session)
    click.echo(f"{_MARKS[finding.met]}{need.what}")
    if finding.said:
        click.echo(f"      {finding.said}")
    if finding.met is not True:
        click.echo(f"      -> {need.where}")
    return finding


def _asked(need: Need, session: Any | None) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError

    from freehold.cluster.preflight import Finding

    if session is None:
        return Finding(None, "")
    try:
        return need.check(session)
    except (BotoCoreError, ClientError) as error:
        return Finding(None, f"could not be asked: {error}")
