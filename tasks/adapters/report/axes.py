"""Helpers of charts: the page's colours, round numbers for ticks, SVG paths, and labels that fit."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, log10
from typing import Literal

Tone = Literal["one", "two", "calm", "warn", "bad", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"]
GROUPS: tuple[Tone, ...] = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")  # colours for unordered groups; c8 is for all others
WIDTH = 420.0  # user units; the page scales it, and text of 12 units stays readable on a phone
DAY = 86_400
_TIMES = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200)


def shorten(text: str, most: int) -> str:
    """At most `most` characters, cut in the middle, since the ends of a path matter most. Control characters become spaces."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 50 * most])
    if len(plain) <= most:
        return plain
    head = (most - 1) // 3
    return f"{plain[:head]}…{plain[len(plain) - (most - 1 - head) :]}"


def compact(number: float) -> str:
    """Format a number for an axis: 1234 as 1.23k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """Format seconds: 90 as 1:30, 3700 as 1:01:40; less than a minute as seconds."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def ticks(end: float, *, most: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from 0 to `end`, at most `most` steps."""
    magnitude = 10.0 ** floor(log10(end / most))
    step = magnitude * next(size for size in (1, 2, 5, 10) if end / (magnitude * size) <= most)
    return [step * place for place in range(floor(end / step + 1e-9) + 1)]


def time_ticks(end: float) -> list[float]:
    """Round times from 0 to `end` seconds, at most six steps."""
    step = next((step for step in _TIMES if end / step <= 6), ceil(end / 6 / DAY) * DAY)
    return [step * place for place in range(int(end / step) + 1)]


def line(points: Iterable[tuple[float, float]]) -> str:
    """The data of an SVG path through points."""
    return "M" + "L".join(at(x, y) for x, y in points)


def at(x: float, y: float) -> str:
    """A point in a path, rounded to a tenth of a unit to keep the page small."""
    return f"{round(x, 1):g} {round(y, 1):g}"
