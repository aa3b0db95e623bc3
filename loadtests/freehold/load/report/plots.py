"""Plots as inline SVG: nothing is loaded from anywhere, and the page can be mailed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

COLOURS = ("#3b82f6", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")
_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 44
# Dots drawn of a scatter at most: a page of 100,000 would not open.
_DOTS = 3000
# So few are drawn large.
_FEW = 1000
_POINTS = 600

Values = Sequence[float] | np.ndarray


@dataclass
class Plot:
    """Axes and what is drawn on them. y starts at zero: latencies and rates do."""

    title: str
    x_label: str
    y_label: str
    x_log: bool = False
    x_from_zero: bool = False
    _layers: list[tuple[str, np.ndarray, np.ndarray, str, str]] = field(default_factory=list)
    _marks: list[tuple[float, str]] = field(default_factory=list)

    def line(self, x: Values, y: Values, name: str = "", step: bool = False) -> Plot:
        xs, ys = _thin(np.asarray(x, float), np.asarray(y, float))
        if step and len(xs) > 1:
            xs, ys = np.repeat(xs, 2)[1:], np.repeat(ys, 2)[:-1]
        return self._add("line", xs, ys, name)

    def dots(self, x: Values, y: Values, name: str = "") -> Plot:
        xs, ys = np.asarray(x, float), np.asarray(y, float)
        if len(xs) > _DOTS:
            chosen = np.random.default_rng(0).choice(len(xs), _DOTS, replace=False)
            xs, ys = xs[chosen], ys[chosen]
        return self._add("dots", xs, ys, name)

    def mark(self, x: float, name: str) -> Plot:
        """A vertical line with a word."""
        self._marks.append((x, name))
        return self

    def _add(self, kind: str, x: np.ndarray, y: np.ndarray, name: str) -> Plot:
        colour = COLOURS[len(self._layers) % len(COLOURS)]
        if len(x):
            self._layers.append((kind, x, y, name, colour))
        return self

    def svg(self) -> str:
        """The figure; says so when there is nothing to draw."""
        if not self._layers:
            return (
                f'<figure><figcaption>{escape(self.title)}</figcaption><p class="none">nothing was '
                "measured for this plot</p></figure>"
            )
        xs = np.concatenate([x for _, x, *_ in self._layers])
        ys = np.concatenate([y for _, _, y, *_ in self._layers])
        if self.x_log:
            xs = xs[xs > 0]
        least = 0.0 if self.x_from_zero else float(xs.min())
        most = float(xs.max()) * (1.05 if self.x_from_zero else 1.0)
        self._x0, self._x1 = _range(least, most, self.x_log)
        highest = float(ys.max()) or 1.0  # nothing but zeros
        self._y0, self._y1 = 0.0, highest * (1.2 if self._marks else 1.05)
        body = [self._grid(), *map(self._layer, self._layers)]
        body += [self._mark(place, *mark) for place, mark in enumerate(self._marks)]
        return (
            f"<figure><figcaption>{escape(self.title)}</figcaption>"
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.title)}">'
            f"{''.join(body)}</svg>{self._legend()}</figure>"
        )

    def _x(self, value: np.ndarray | float) -> np.ndarray:
        low, high, at = self._x0, self._x1, np.asarray(value, float)
        if self.x_log:
            low, high, at = math.log10(low), math.log10(high), np.log10(np.maximum(at, self._x0))
        return _LEFT + (at - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: np.ndarray | float) -> np.ndarray:
        share = (np.asarray(value, float) - self._y0) / (self._y1 - self._y0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def _grid(self) -> str:
        parts: list[str] = []
        bottom = _HEIGHT - _BOTTOM
        for value in ticks(self._y0, self._y1):
            y = float(self._y(value))
            parts.append(
                f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_label(value)}</text>'
            )
        marks = log_ticks(self._x0, self._x1) if self.x_log else ticks(self._x0, self._x1)
        for value in marks:
            x = float(self._x(value))
            parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{_label(value)}</text>'
            )
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(
            f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(self.x_label)}</text>'
        )
        parts.append(
            f'<text transform="translate(13 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y_label)}</text>"
        )
        return "".join(parts)

    def _layer(self, layer: tuple[str, np.ndarray, np.ndarray, str, str]) -> str:
        kind, x, y, _, colour = layer
        px, py = self._x(x), self._y(y)
        if kind == "line":
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))
            return f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{points}"/>'
        dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(px, py, strict=True))
        few = " few" if len(x) <= _FEW else ""
        return f'<path class="d{few}" stroke="{colour}" d="{dots}"/>'

    def _mark(self, place: int, at: float, name: str) -> str:
        """Names stand on two lines in turn, so that near ones can be read."""
        x, y = float(self._x(at)), _TOP + 10 + 12 * (place % 2)
        return (
            f'<line class="m" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
            f'<text class="m" x="{x + 4:.1f}" y="{y}">{escape(name)}</text>'
        )

    def _legend(self) -> str:
        named = [(name, colour) for *_, name, colour in self._layers if name]
        if not named:
            return ""
        items = (f'<li><i style="background:{c}"></i>{escape(n)}</li>' for n, c in named)
        return f"<ul>{''.join(items)}</ul>"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers across a range."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-12) / count))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten within a range; powers alone when it is wide, and round numbers
    at even distances when it is so narrow that it has hardly any of these."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low <= 200 else (1,)
    found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
    return found if len(found) > 2 else ticks(low, high)


def _label(value: float) -> str:
    """A mark's number: thousands apart, no zeros at the end."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def distribution(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Share of the values (in per cent) at or below each of them."""
    ordered = np.sort(np.asarray(values, float))
    return ordered, np.arange(1, len(ordered) + 1) / max(len(ordered), 1) * 100


def _range(low: float, high: float, log: bool) -> tuple[float, float]:
    if high > low:
        return low, high
    return (low / 2, low * 2) if log and low > 0 else (low - 0.5, low + 0.5)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Few enough points to draw; the first and the last stay."""
    if len(x) <= _POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, _POINTS).astype(int))
    return x[keep], y[keep]
