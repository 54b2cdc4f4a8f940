"""Types of columns whose files do not state them, and of columns whose files state different ones.

A column is a number only where every value that was seen comes back the same from it: 02134, +49151, 3.10 and integers beyond
64 bits are names. Where values or files differ, the type is the narrowest that holds all: int64, double, then text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.target.fields import ARRAYS, ELEMENTS, FieldType

INT64 = range(-(2**63), 2**63)
EXACT_INTEGERS = range(-(2**53), 2**53 + 1)  # each is a float of its own
INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_FRACTION = re.compile(r"-?(0|[1-9][0-9]*)\.([0-9]*[1-9]|0)")
_SCIENTIFIC = re.compile(r"-?[0-9](\.[0-9]+[eE][+-]?|[eE][+-])[0-9]+")  # 1E5, without point or sign, may be a name
NOT_A_NUMBER = ("nan", "NaN")
FLOAT_DIGITS = 15  # so many of any number come back from a float
_MINUS, _POINT, _ZERO, _NINE = b"-.09"
_HEXADECIMAL = np.frombuffer(b"xX", np.uint8)  # which Arrow takes for numbers
_LEAST = np.array([0, 0, *(10**digits for digits in range(1, 19))], np.uint64)  # that has so many digits


def is_exact_number(text: str) -> bool:
    """Whether a text comes back the same from its number; an exponent may be written in any of the usual ways (1.5E-7, 1.5e-07)."""
    if re.fullmatch(INTEGER, text):
        return int(text) in EXACT_INTEGERS
    if _SCIENTIFIC.fullmatch(text):
        return Decimal(text) == Decimal(repr(float(text)))
    return text in NOT_A_NUMBER or (bool(_FRACTION.fullmatch(text)) and Decimal(text) == Decimal(repr(float(text))))


def are_exact_integers(texts: pa.Array, numbers: pa.Array) -> bool:
    """Whether each text is its number (int64) as it is written digit by digit: it has no more digits than that."""
    data, starts, stops = _bytes_of(texts)
    values = numbers.drop_null().to_numpy()
    digits = stops - starts - (values < 0)
    if not len(values) or digits.max() >= len(_LEAST):
        return not len(values)
    return bool((np.abs(values).view(np.uint64) >= _LEAST[digits]).all() and not np.isin(data, _HEXADECIMAL).any())


def are_exact_decimals(texts: pa.Array) -> bool:
    """Whether each text, of those that are numbers (double), surely is one that comes back: has at most 15 digits, and no zero too many."""
    data, starts, stops = _bytes_of(texts)
    if not len(starts) or ((data < _MINUS) | (data > _NINE)).any():
        return not len(starts)
    first = starts + (data[starts] == _MINUS)
    if (stops - first).max() > FLOAT_DIGITS or ((data[first] == _POINT) | (data[stops - 1] == _POINT)).any():
        return False
    zero_first = first[(data[first] == _ZERO) & (stops - first > 1)]
    zero_last = np.flatnonzero(data[stops - 1] == _ZERO)
    return bool((data[zero_first + 1] == _POINT).all() and all(map(is_exact_number, texts.drop_null().take(zero_last).to_pylist())))


def _bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bytes of those that are not null, and where each begins and ends."""
    texts = texts.drop_null().cast(pa.string())
    _, places, data = texts.buffers()
    if not len(texts):
        return np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64)
    offsets = np.frombuffer(places, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    return held, offsets[:-1] - offsets[0], offsets[1:] - offsets[0]


def type_of_strings(values: pa.Array) -> FieldType | None:
    """What the cells of a CSV column are; None: there is none."""
    values = pc.unique(pc.utf8_trim_whitespace(values.drop_null()))
    if len(values) == 0:
        return None
    if pc.all(pc.match_substring_regex(values, INTEGER)).as_py() and _is_int64(values):
        return "int64"
    truths = pc.is_in(pc.utf8_lower(values), pa.array(["true", "false"]))
    if pc.all(truths).as_py():
        return "bool"
    texts = values.to_pylist()
    return "double" if all(map(is_exact_number, texts)) and not {*texts}.issubset(NOT_A_NUMBER) else "varchar"


def _is_int64(values: pa.Array) -> bool:
    try:
        values.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


def inexact_number(values: pa.Array) -> str | None:
    """Of texts that are all numbers by their digits, one that would not come back the same."""
    texts = pc.unique(pc.utf8_trim_whitespace(values.drop_null()))
    try:
        texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return next((text for text in texts.to_pylist() if not is_exact_number(text)), None)


def type_of_values(values: Iterable[object]) -> FieldType | None:
    """The type of a JSON key's values in a sample; None: all are null, or lists without elements."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    if all(isinstance(value, list) for value in found):
        return _type_of_lists([element for value in found if isinstance(value, list) for element in value if element is not None])
    if any(isinstance(value, list | dict) for value in found):
        return "json"
    kinds = {type(value) for value in found}
    if kinds == {bool}:
        return "bool"
    integers = [value for value in found if isinstance(value, int)]
    if kinds == {int}:
        return "int64" if all(value in INT64 for value in integers) else "varchar"
    return "double" if kinds <= {int, float} and all(value in EXACT_INTEGERS for value in integers) else "varchar"


def mixture(values: Iterable[object]) -> bool:
    """Whether there are texts and other scalars among them, which only text holds all of."""
    kinds = {type(value) for value in values if value is not None}
    return str in kinds and bool(kinds & {int, float, bool})


def _type_of_lists(elements: Sequence[object]) -> FieldType | None:
    """Lists of one kind of element are arrays. Those that hold many kinds are JSON."""
    kind = type_of_values(elements)
    if kind is None:
        return "json" if elements else None
    mixed = kind == "varchar" and {type(element) for element in elements} != {str}
    return "json" if mixed else ARRAYS.get(kind, "json")


def wider(one: FieldType | None, other: FieldType | None) -> FieldType | None:
    """The narrowest type that holds the values of both; None: a column that is null."""
    if one is None or other is None or one == other:
        return one or other
    if one in ELEMENTS and other in ELEMENTS:
        element = wider(ELEMENTS[one], ELEMENTS[other])
        return ARRAYS[element] if element else None
    if "json" in {one, other} or one in ELEMENTS or other in ELEMENTS:
        return "json"
    return "double" if {one, other} == {"int64", "double"} else "varchar"


@dataclass(slots=True)
class TypeSurvey:
    """Types that columns have in several places (files, or parts of one), and where each was seen first."""

    seen: dict[str, dict[FieldType | None, str]] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)  # of a column, what else there is to say

    def add(self, column: str, kind: FieldType | None, where: str) -> None:
        """A column has this type in a file; None: it is null there."""
        self.seen.setdefault(column, {}).setdefault(kind, where)

    def type_of(self, column: str) -> FieldType:
        """One for all; a column that is null wherever it was seen is JSON, which holds anything."""
        kind: FieldType | None = None
        for other in self.seen[column]:
            kind = wider(kind, other)
        return kind or "json"

    def note(self, column: str) -> str | None:
        """A line where places differ, or where numbers are kept as texts."""
        places = {kind: where for kind, where in self.seen[column].items() if kind}
        if len(places) < 2:
            return self.said.get(column)
        told = ", ".join(f"{spoken(kind)} in {where}" for kind, where in list(places.items())[:3])
        return f"column '{column}' is {told}: it is stored as {spoken(self.type_of(column))}"


def spoken(kind: FieldType) -> str:
    """A type as the job file names it."""
    return kind.replace("varchar", "text")
