"""Whether an expression can match anything: every selector against the metrics that exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from freehold.config.errors import nearest

from .metrics import TARGET_LABELS, Metric, series
from .promql import Matcher, Selector, parse

# What makes sense of a counter alone, and of a gauge alone.
_OF_COUNTERS = ("rate", "irate", "increase")
_OF_GAUGES = ("deriv", "delta", "idelta", "predict_linear")
_VARIABLE = re.compile(r"\$\w+|\$\{\w+(:\w+)?\}|\[\[\w+\]\]")


def problems(expression: str, recorded: Mapping[str, frozenset[str]]) -> list[str]:
    """What is wrong with it, one sentence each; empty when all is well.

    `recorded` are the labels of each series that recording rules write. Grafana's variables stand for
    any value.
    """
    parsed = parse(_VARIABLE.sub("5m", expression))
    found = [sentence for one in parsed.selectors for sentence in _of(one, recorded)]
    labels = set(TARGET_LABELS) | {"le"} | _made_labels(expression)
    for selector in parsed.selectors:
        labels |= _labels(selector, recorded)
    for label in sorted(parsed.grouping - labels):
        found.append(f'no selector of it has the label "{label}"')
    return found


def _of(selector: Selector, recorded: Mapping[str, frozenset[str]]) -> Iterator[str]:
    name, metric = selector.name, series().get(selector.name)
    if metric is None and name not in recorded:
        yield f"no source exports {name}{nearest(name, [*series(), *recorded])}"
        return
    labels = _labels(selector, recorded) | TARGET_LABELS
    for matcher in selector.matchers:
        if matcher.label not in labels | {"__name__"}:
            yield f'{name} has no label "{matcher.label}"{nearest(matcher.label, labels)}'
    if metric:
        yield from _values(selector, metric)
        yield from _kind(selector, metric)


def _labels(selector: Selector, recorded: Mapping[str, frozenset[str]]) -> frozenset[str]:
    if metric := series().get(selector.name):
        return metric.series[selector.name]
    return recorded.get(selector.name, frozenset())


def _values(selector: Selector, metric: Metric) -> Iterator[str]:
    for matcher in selector.matchers:
        allowed = metric.values.get(matcher.label)
        if allowed and not any(_matches(matcher, value) for value in allowed):
            yield (
                f'{selector.name}: {matcher.label}{matcher.operator}"{matcher.value}" matches none of '
                f"{', '.join(sorted(allowed))}"
            )


def _matches(matcher: Matcher, value: str) -> bool:
    if _VARIABLE.search(matcher.value) or matcher.value == "5m":
        return True
    if matcher.operator in ("=", "!="):
        return (matcher.value == value) == (matcher.operator == "=")
    return bool(re.fullmatch(matcher.value, value)) == (matcher.operator == "=~")


def _kind(selector: Selector, metric: Metric) -> Iterator[str]:
    accumulates = metric.kind in ("counter", "histogram")
    if selector.function in _OF_COUNTERS and not accumulates:
        yield f"{selector.function}() of {selector.name}, which is a gauge"
    if selector.function in _OF_GAUGES and accumulates:
        yield f"{selector.function}() of {selector.name}, which only grows"
    if accumulates and selector.window is None and selector.function not in _OF_TOTALS:
        yield f"{selector.name} only grows: its value means nothing without rate() or increase()"


# Where the total since a process began is what is wanted, or whether there is one at all.
_OF_TOTALS = ("timestamp", "absent", "resets", "changes", "count")


def _made_labels(expression: str) -> set[str]:
    """Labels that the expression itself makes."""
    return set(re.findall(r'label_(?:replace|join)\(.*?,\s*"(\w+)"', expression, re.DOTALL))


def recorded_labels(
    rules: Iterable[Mapping[str, object]], given: Mapping[str, frozenset[str]]
) -> dict[str, frozenset[str]]:
    """The labels of every series that these rules record: what their expressions group by, and what
    they add. A rule without a clause of its own keeps what it reads, `given` included."""
    rules = [rule for rule in rules if "record" in rule]
    known = dict(given)
    for _ in range(2):  # a rule may read what a later one records
        for rule in rules:
            name, expression = str(rule["record"]), str(rule["expr"])
            parsed, labels = parse(expression), _made_labels(expression)
            labels |= set(parsed.grouping - {"le"}) or set().union(
                *(_labels(selector, known) | TARGET_LABELS for selector in parsed.selectors)
            )
            added = rule.get("labels")
            labels |= set(added) if isinstance(added, Mapping) else set()
            known[name] = known.get(name, frozenset()) | labels
    return known
