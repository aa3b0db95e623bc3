"""Engines that somebody else started: which they are, and which names they know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import httpx

from freehold.config import FreeholdError
from freehold.config.errors import nearest
from freehold.gateway.model import Pool, Worker, join_address
from freehold.planning.plan import Plan, PoolPlan

from .gateway import pool_of

# An engine that runs answers /v1/models within milliseconds; one under load may take a while.
_ASK_SECONDS = 5.0


def parse_workers(plan: Plan, options: Iterable[str]) -> dict[str, list[Worker]]:
    """Workers by pool, from options `POOL=URL[,URL...]`; FreeholdError names what is wrong."""
    known = [pool.name for pool in plan.pools]
    workers: dict[str, list[Worker]] = {}
    for option in options:
        name, equals, urls = option.partition("=")
        if not equals or not urls:
            raise FreeholdError(
                f'--workers "{option}": write POOL=URL, such as {known[0]}=http://127.0.0.1:8000'
            )
        if name not in known:
            raise FreeholdError(
                f'--workers "{option}": stack {plan.stack} has no pool "{name}"'
                f"{nearest(name, known)}; it has: {', '.join(known)}"
            )
        found = workers.setdefault(name, [])
        for url in urls.split(","):
            found.append(_worker(f"{name}-{len(found)}", url, option))
    return workers


def _worker(name: str, url: str, option: str) -> Worker:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise FreeholdError(f'--workers "{option}": {url} is no address: {error}') from None
    if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query:
        raise FreeholdError(
            f'--workers "{option}": "{url}" must be http://host:port, the engine\'s own address '
            "without a path (engines speak plain HTTP; keep them on a private network)"
        )
    return Worker(name, host, port)


def pools_of(plan: Plan, workers: Mapping[str, list[Worker]], warn: list[str]) -> list[Pool]:
    """The pools that have workers, each under the names its engines know. What is odd but no
    hindrance is added to `warn`."""
    return [
        pool_of(pool, workers[pool.name], _served(pool, workers[pool.name], warn))
        for pool in plan.pools
        if pool.name in workers
    ]


def _served(pool: PoolPlan, workers: list[Worker], warn: list[str]) -> list[str] | None:
    """What the pool's engines call their models, its own name first where they know it; None where
    none answers yet."""
    answers = {worker.address: _ask(worker) for worker in workers}
    names = [answer for answer in answers.values() if answer is not None]
    silent = [address for address, answer in answers.items() if answer is None]
    if silent:
        warn.append(
            f"pool {pool.name}: no answer yet from {', '.join(silent)}; requests go there once "
            "/health answers"
        )
    if not names:
        return None
    if any(set(answer) != set(names[0]) for answer in names):
        said = "; ".join(f"{address}: {', '.join(a)}" for address, a in answers.items() if a)
        raise FreeholdError(
            f"pool {pool.name}: its engines serve different models ({said}); all workers of a pool "
            "must serve the same: give each model a pool of its own"
        )
    if not names[0]:
        return None
    return sorted(names[0], key=lambda name: (name != pool.name, names[0].index(name)))


def _ask(worker: Worker) -> list[str] | None:
    """The names that an engine lists, the base model first; None when it does not answer."""
    url = f"http://{join_address(worker.host, worker.port)}/v1/models"
    try:
        answer = httpx.get(url, timeout=_ASK_SECONDS)
        if answer.status_code in (401, 403):
            raise FreeholdError(
                f"the engine at {worker.address} wants a key of its own; the gateway passes none on: "
                "start it without --api-key and let only the gateway reach it"
            )
        models = answer.raise_for_status().json()["data"]
        return [model["id"] for model in sorted(models, key=lambda m: m.get("parent") is not None)]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
