"""A scrape, by its lines: Prometheus's text format, without a client library's renaming."""

from __future__ import annotations

import re

from freehold.monitoring.metrics import Metric

Scrape = dict[str, tuple[str, set[frozenset[str]]]]
"""By series name: the family's type and the sets of labels that occur."""

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+")
_LABEL = re.compile(r'(\w+)="(?:\\.|[^"\\])*"')


def read(text: str) -> Scrape:
    found: Scrape = {}
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            types[name] = kind
        elif match := _SAMPLE.match(line):
            name, labels = match.group(1), frozenset(_LABEL.findall(match.group(2) or ""))
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            kind = types.get(name) or types.get(family, "untyped")
            found.setdefault(name, (kind, set()))[1].add(labels)
    return found


def missing(metric: Metric, scrape: Scrape) -> list[str]:
    """What a scrape lacks of a metric: its series, its type, its labels."""
    found = []
    for name, labels in metric.series.items():
        if name not in scrape:
            found.append(f"{name} is not there")
            continue
        kind, seen = scrape[name]
        if kind != metric.kind:
            found.append(f"{name} is a {kind}")
        if not any(labels <= each for each in seen):
            found.append(f"{name} has {sorted(map(sorted, seen))}, not {sorted(labels)}")
    return found
