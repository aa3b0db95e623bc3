"""vLLM's metrics under vLLM's names, labels and buckets, kept cheaply and written out on a scrape."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_FAMILIES = Path(__file__).with_name("vllm_metrics.json")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@cache
def families() -> tuple[dict[str, Any], ...]:
    """Every family of the pinned vLLM: name, type, help, labels, buckets."""
    return tuple(json.loads(_FAMILIES.read_text(encoding="utf-8")))


class Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = list(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Metrics:
    """One engine's. `values` are counters and gauges by (name, last label's value)."""

    def __init__(
        self,
        model: str,
        max_model_len: int,
        cache_config: Mapping[str, str],
        draft_tokens: int = 0,
        max_loras: int | None = None,
        started: float = 0.0,
    ) -> None:
        """`started` is when the engine did, by the wall clock."""
        self._labels = f'model_name="{_escaped(model)}"'
        self._cache_config = cache_config
        self.values: dict[tuple[str, str], float] = {}
        self.histograms: dict[str, Histogram] = {}
        self.adapters: tuple[str, str] = ("", "")
        """Names of adapters in use: of running and of waiting requests."""
        self._max_loras = max_loras
        # Of vLLM's process, by its Python client; here of each engine, several of which share a process.
        self._process = (
            "# TYPE process_start_time_seconds gauge\n"
            f"process_start_time_seconds {float(started)!r}\n"
        )
        self._families = [f for f in families() if _exported(f, draft_tokens, max_loras)]
        for family in self._families:
            name = family["name"]
            if family["type"] == "histogram":
                of_length = name.startswith("vllm:request_") and family["buckets"][-1] == 2000
                bounds = _one_two_five(max_model_len) if of_length else family["buckets"]
                self.histograms[name] = Histogram(bounds)
            elif "defaults" not in family:
                values = family.get("values", [""])
                if name.endswith("_per_pos"):
                    values = [str(place) for place in range(draft_tokens)]
                for value in values:
                    self.values[name, value] = 0.0

    def add(self, name: str, amount: float, of: str = "") -> None:
        self.values[name, of] += amount

    def set(self, name: str, value: float, of: str = "") -> None:
        self.values[name, of] = value

    def observe(self, name: str, value: float, times: int = 1) -> None:
        self.histograms[name].observe(value, times)

    def text(self) -> str:
        """The exposition that Prometheus reads."""
        lines = (line + "\n" for family in self._families for line in self._lines(family))
        return self._process + "".join(lines)

    def _lines(self, family: dict[str, Any]) -> Iterator[str]:
        name, kind = family["name"], family["type"]
        sample = name + "_total" if kind == "counter" else name
        yield f"# HELP {sample} {family['help']}"
        yield f"# TYPE {sample} {kind}"
        labels = self._labels + (',engine="0"' if "engine" in family["labels"] else "")
        if kind == "histogram":
            yield from _histogram_lines(name, labels, self.histograms[name])
        elif "defaults" in family:
            yield f"{name}{{{self._info(family)}}} 1.0"
        else:
            other = next((n for n in family["labels"] if n not in ("model_name", "engine")), None)
            for (of, value), number in self.values.items():
                if of == name:
                    more = f',{other}="{value}"' if other else ""
                    yield f"{sample}{{{labels}{more}}} {number!r}"

    def _info(self, family: dict[str, Any]) -> str:
        values = dict(family["defaults"])
        if "max_lora" in values:
            running, waiting = self.adapters
            values = {"max_lora": str(self._max_loras)}
            values |= {"waiting_lora_adapters": waiting, "running_lora_adapters": running}
        else:
            values |= self._cache_config
        return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def _exported(family: dict[str, Any], draft_tokens: int, max_loras: int | None) -> bool:
    """Some families are there only with what they speak of."""
    name = family["name"]
    if name.startswith("vllm:spec_decode"):
        return draft_tokens > 0
    return name != "vllm:lora_requests_info" or max_loras is not None


def _histogram_lines(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    running = 0
    for bound, count in zip([*histogram.bounds, "+Inf"], histogram.counts, strict=True):
        running += count
        le = bound if isinstance(bound, str) else repr(float(bound))
        yield f'{name}_bucket{{le="{le}",{labels}}} {float(running)!r}'
    yield f"{name}_count{{{labels}}} {float(running)!r}"
    yield f"{name}_sum{{{labels}}} {histogram.total!r}"


def _one_two_five(most: int) -> list[float]:
    """1, 2, 5, 10, 20, ... up to the longest request: vLLM's buckets of token counts."""
    bounds = (float(m * 10**power) for power in range(10) for m in (1, 2, 5))
    return [bound for bound in bounds if bound <= most]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
