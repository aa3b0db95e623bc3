"""Everything that is no inference: models, health, metrics, sleep, and faults on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import orjson

from freehold.catalog.release import load_release

from . import errors, metrics
from .http import Exchange
from .replica import Replica

Routes = dict[str, dict[str, Callable[[Exchange], None]]]


def routes(replica: Replica) -> Routes:
    """By path and method; sleep and faults only where they are switched on."""
    settings, engine = replica.settings, replica.engine

    def models(exchange: Exchange) -> None:
        exchange.respond(200, orjson.dumps({"object": "list", "data": _cards(replica)}))

    def health(exchange: Exchange) -> None:
        exchange.respond(503 if replica.faults.dead else 200, b"", "text/plain")

    def version(exchange: Exchange) -> None:
        exchange.respond(200, orjson.dumps({"version": load_release().vllm}))

    def load(exchange: Exchange) -> None:
        exchange.respond(200, orjson.dumps({"server_load": engine.unfinished}))

    def scrape(exchange: Exchange) -> None:
        engine.refresh()
        exchange.respond(200, replica.metrics.text().encode(), metrics.CONTENT_TYPE)

    def reset(exchange: Exchange) -> None:
        engine.scheduler.pool.clear()
        exchange.respond(200, b"")

    def clock(exchange: Exchange) -> None:
        exchange.respond(200, orjson.dumps(asdict(engine.clock)))

    found: Routes = {
        "/v1/models": {"GET": models},
        "/health": {"GET": health},
        "/ping": {"GET": health, "POST": health},
        "/version": {"GET": version},
        "/load": {"GET": load},
        "/metrics": {"GET": scrape},
        "/simulator/clock": {"GET": clock},
    }
    if settings.sleep_mode:
        found |= _sleep(replica) | {"/reset_prefix_cache": {"POST": reset}}
    if settings.faults:
        found["/simulator/faults"] = _faults(replica)
    return found


def _cards(replica: Replica) -> list[dict[str, object]]:
    settings = replica.settings
    base = [(name, settings.model, None) for name in settings.names]
    adapters = [(name, path, settings.names[0]) for name, path in settings.adapters.items()]
    return [
        {
            "id": name,
            "object": "model",
            "created": replica.started,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": None if parent else settings.limits.max_model_len,
            "permission": [],
        }
        for name, root, parent in (*base, *adapters)
    ]


def _sleep(replica: Replica) -> Routes:
    engine = replica.engine

    def sleep(exchange: Exchange) -> None:
        level = exchange.parameter("level") or "1"
        if level not in ("0", "1", "2"):
            return errors.bad_request(exchange, "level is 0, 1 or 2", "level")
        engine.fall_asleep(int(level))
        exchange.respond(200, orjson.dumps({"status": "sleeping", "level": int(level)}))
        return None

    def wake_up(exchange: Exchange) -> None:
        engine.wake_up()
        exchange.respond(200, orjson.dumps({"status": "awake", "tags": None}))

    def is_sleeping(exchange: Exchange) -> None:
        asleep = engine.sleep_level is not None
        exchange.respond(200, orjson.dumps({"is_sleeping": asleep}))

    return {
        "/sleep": {"POST": sleep},
        "/wake_up": {"POST": wake_up},
        "/is_sleeping": {"GET": is_sleeping},
    }


def _faults(replica: Replica) -> dict[str, Callable[[Exchange], None]]:
    engine = replica.engine

    def read(exchange: Exchange) -> None:
        exchange.respond(200, orjson.dumps(asdict(replica.faults)))

    def change(exchange: Exchange) -> None:
        try:
            given = orjson.loads(exchange.body)
            if given.pop("crash", False):
                return replica.crash()
            replica.faults.update(given)
            pool = engine.scheduler.pool
            pool.reserve(int(replica.faults.kv_taken * pool.blocks))
        except (ValueError, AttributeError) as error:
            return errors.bad_request(exchange, str(error))
        engine.wake()  # one that hung goes on
        return read(exchange)

    return {"GET": read, "POST": change}
