"""Ranges: uncertain numbers as (low, expected, high), and the arithmetic on them.

Arithmetic takes ranges end to end: the most that a job may last is the most work at the lowest rate. The ends of
independent things seldom come together, so a result is rather too wide than too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from statistics import fmean, median, variance

from pydantic import Field, model_validator

from tasks.domain.strict import Strict

ERRORS = 2.0  # standard errors on either side: 19 times out of 20, if means are spread as a normal distribution spreads them


class Range(Strict):
    """low <= expected <= high, none of them negative."""

    low: float = Field(ge=0, allow_inf_nan=False)
    expected: float = Field(ge=0, allow_inf_nan=False)
    high: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low <= self.expected <= self.high:
            raise ValueError(f"a range goes up: {self.low}, {self.expected}, {self.high}")
        return self

    def __add__(self, other: Range) -> Range:
        return Range(low=self.low + other.low, expected=self.expected + other.expected, high=self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        by = other if isinstance(other, Range) else exactly(other)
        return Range(low=self.low * by.low, expected=self.expected * by.expected, high=self.high * by.high)

    def __truediv__(self, other: Range) -> Range:
        """The low end over the high one, and the other way round; no end of `other` may be 0."""
        return Range(low=self.low / other.high, expected=self.expected / other.expected, high=self.high / other.low)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def exactly(value: float) -> Range:
    """The range of an exact number."""
    return Range(low=value, expected=value, high=value)


def the_longer(one: Range, other: Range) -> Range:
    """The duration of two concurrent activities: the longer one."""
    return Range(low=max(one.low, other.low), expected=max(one.expected, other.expected), high=max(one.high, other.high))


def spread_of(values: Iterable[float], *, expected: float | None = None, least: float) -> Range:
    """The range of several observations: from the smallest to the largest, but no narrower than a share of what is expected.

    Args:
        values: at least one.
        expected: what to expect; left out, the median.
        least: the share that is taken off and added at the least.
    """
    seen = sorted(values)
    middle = median(seen) if expected is None else expected
    return Range(low=min(seen[0], middle * (1 - least)), expected=middle, high=max(seen[-1], middle * (1 + least)))


def mean_of(places: Sequence[Sequence[float]], *, seen: float) -> Range:
    """The mean over a corpus, from values at some places of it.

    Places are at equal distances, so that each counts the same. The range is two standard errors of the mean of
    their means: sqrt((1 - f) v / m), where f is the share that was seen, m the number of places and v the variance
    between their means (Cochran, Sampling Techniques, 1977, chapters 2 and 8); of one place alone, m and v are those of
    its values. One value alone says nothing of the spread: then from nothing to twice as much is thought possible.

    Args:
        places: the values at each place; places without any are left out.
        seen: share of the corpus that these values are of, 0 to 1; all of it leaves nothing to guess.
    """
    means = [fmean(place) for place in places if len(place)]
    values = [value for place in places for value in place]
    if not values or seen >= 1:
        return exactly(fmean(values) if values else 0)
    expected, of = fmean(means), means if len(means) > 1 else values
    error = ERRORS * sqrt((1 - seen) * variance(of) / len(of)) if len(of) > 1 else (1 - seen) * expected
    return Range(low=max(0.0, expected - error), expected=expected, high=expected + error)


def at_least_none(what: Range) -> Range:
    """The same, which may come out as little as nothing."""
    return what.model_copy(update={"low": 0.0})


def between(what: Range, words: Callable[[float], str]) -> str:
    """What is expected, and from where to where it may come out; once where all three read alike."""
    low, expected, high = words(what.low), words(what.expected), words(what.high)
    return expected if low == high else f"{expected} ({low} to {high})"
