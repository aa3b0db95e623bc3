"""What Prometheus says is wrong, watched while something is done to a stack."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import httpx

_INTERVAL = 0.5


@dataclass
class Firing:
    """One alert; times by the wall clock."""

    name: str
    began: float
    ended: float | None = None


class AlertWatch:
    """Asks for firing alerts twice a second, in a thread of its own, from `start` to `stop`."""

    def __init__(self, prometheus: str) -> None:
        self._url = f"{prometheus}/api/v1/alerts"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self.seen: list[Firing] = []

    def start(self) -> AlertWatch:
        self._thread.start()
        return self

    def stop(self) -> list[Firing]:
        self._end.set()
        self._thread.join(timeout=10)
        return self.seen

    def quiet_within(self, seconds: float) -> bool:
        """Wait until nothing fires any more."""
        until = time.monotonic() + seconds
        while self._firing() and time.monotonic() < until:
            time.sleep(_INTERVAL)
        return not self._firing()

    def _firing(self) -> list[Firing]:
        return [one for one in self.seen if one.ended is None]

    def _run(self) -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            while not self._end.wait(_INTERVAL):
                try:
                    alerts = client.get(self._url).json()["data"]["alerts"]
                except (httpx.HTTPError, ValueError, KeyError):
                    continue  # it is still starting, or has just gone
                self._note({a["labels"]["alertname"] for a in alerts if a["state"] == "firing"})

    def _note(self, firing: set[str]) -> None:
        now = time.time()
        for one in self._firing():
            if one.name not in firing:
                one.ended = now
            firing.discard(one.name)
        self.seen += [Firing(name, now) for name in sorted(firing)]
