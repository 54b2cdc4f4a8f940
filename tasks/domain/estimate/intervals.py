"""Ranges: uncertain numbers as (low, expected, high), and the arithmetic on them.

Arithmetic combines the extremes: the longest duration is the most work at the lowest rate. Extremes of independent
quantities seldom coincide, so results tend to be too wide rather than too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from statistics import fmean, median, variance

from pydantic import Field, model_validator

from tasks.domain.strict import Strict

ERRORS = 2.0  # standard errors on either side: a 95% interval, if the means are normally distributed


class Range(Strict):
    """An uncertain number: 0 <= low <= expected <= high."""

    low: float = Field(ge=0, allow_inf_nan=False)
    expected: float = Field(ge=0, allow_inf_nan=False)
    high: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low <= self.expected <= self.high:
            raise ValueError(f"a range must be in ascending order: {self.low}, {self.expected}, {self.high}")
        return self

    def __add__(self, other: Range) -> Range:
        return Range(low=self.low + other.low, expected=self.expected + other.expected, high=self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        by = other if isinstance(other, Range) else exactly(other)
        return Range(low=self.low * by.low, expected=self.expected * by.expected, high=self.high * by.high)

    def __truediv__(self, other: Range) -> Range:
        """Divide low by high and high by low; no end of `other` may be 0."""
        return Range(low=self.low / other.high, expected=self.expected / other.expected, high=self.high / other.low)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def exactly(value: float) -> Range:
    """Return the range of an exact number."""
    return Range(low=value, expected=value, high=value)


def the_longer(one: Range, other: Range) -> Range:
    """Return the duration of two concurrent activities: that of the longer one."""
    return Range(low=max(one.low, other.low), expected=max(one.expected, other.expected), high=max(one.high, other.high))


def spread_of(values: Iterable[float], *, expected: float | None = None, least: float) -> Range:
    """Return the range of several observations: smallest to largest, but at least `expected` -/+ the share `least`.

    Args:
        values: observations, at least one.
        expected: the expected value; None: the median.
        least: smallest relative deviation of either end, 0 to 1.
    """
    seen = sorted(values)
    middle = median(seen) if expected is None else expected
    return Range(low=min(seen[0], middle * (1 - least)), expected=middle, high=max(seen[-1], middle * (1 + least)))


def mean_of(places: Sequence[Sequence[float]], *, seen: float) -> Range:
    """Estimate the mean over a corpus from values at some places of it.

    Places are at equal distances, so they have equal weight. The range is two standard errors of the mean of their
    means: sqrt((1 - f) v / m), where f is the sampled share, m the number of places and v the variance between their
    means (Cochran, Sampling Techniques, 1977, chapters 2 and 8); for a single place, m and v are those of its values.
    A single value has no variance: the range then goes from 0 to twice the value, narrowed by the sampled share.

    Args:
        places: the values at each place; places without values are ignored.
        seen: sampled share of the corpus, 0 to 1; at 1 the mean is exact.
    """
    means = [fmean(place) for place in places if len(place)]
    values = [value for place in places for value in place]
    if not values or seen >= 1:
        return exactly(fmean(values) if values else 0)
    expected, sample = fmean(means), means if len(means) > 1 else values
    error = ERRORS * sqrt((1 - seen) * variance(sample) / len(sample)) if len(sample) > 1 else (1 - seen) * expected
    return Range(low=max(0.0, expected - error), expected=expected, high=expected + error)


def at_least_none(what: Range) -> Range:
    """Return the range with a low end of 0."""
    return what.model_copy(update={"low": 0.0})


def between(what: Range, words: Callable[[float], str]) -> str:
    """Format a range as "expected (low to high)", or as one value if both ends read the same."""
    low, expected, high = words(what.low), words(what.expected), words(what.high)
    return expected if low == high else f"{expected} ({low} to {high})"
