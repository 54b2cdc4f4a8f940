"""Infers types of columns whose files do not declare them, or declare different ones.

A column is numeric only if every sampled value round-trips: 02134, +49151, 3.10 and integers beyond
64 bits are texts. If values or files differ, the type is the narrowest that holds all: int64, double, then text.
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
EXACT_INTEGERS = range(-(2**53), 2**53 + 1)  # floats represent each of them exactly
INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_FRACTION = re.compile(r"-?(0|[1-9][0-9]*)\.([0-9]*[1-9]|0)")
_SCIENTIFIC = re.compile(r"-?[0-9](\.[0-9]+[eE][+-]?|[eE][+-])[0-9]+")  # 1E5, without point or sign, may be an identifier
NOT_A_NUMBER = ("nan", "NaN")
FLOAT_DIGITS = 15  # decimal digits that always round-trip through a float
_MINUS, _POINT, _ZERO, _NINE = b"-.09"
_HEXADECIMAL = np.frombuffer(b"xX", np.uint8)  # Arrow parses hexadecimal numbers
_LEAST = np.array([0, 0, *(10**digits for digits in range(1, 19))], np.uint64)  # the smallest integer of each number of digits


def is_exact_number(text: str) -> bool:
    """Return whether a text round-trips through its number; an exponent may have any usual form (1.5E-7, 1.5e-07)."""
    if re.fullmatch(INTEGER, text):
        return int(text) in EXACT_INTEGERS
    if _SCIENTIFIC.fullmatch(text):
        return Decimal(text) == Decimal(repr(float(text)))
    return text in NOT_A_NUMBER or (bool(_FRACTION.fullmatch(text)) and Decimal(text) == Decimal(repr(float(text))))


def are_exact_integers(texts: pa.Array, numbers: pa.Array) -> bool:
    """Return whether each text is the plain decimal form of its int64, without extra digits."""
    data, starts, stops = _bytes_of(texts)
    values = numbers.drop_null().to_numpy()
    digits = stops - starts - (values < 0)
    if not len(values) or digits.max() >= len(_LEAST):
        return not len(values)
    return bool((np.abs(values).view(np.uint64) >= _LEAST[digits]).all() and not np.isin(data, _HEXADECIMAL).any())


def are_exact_decimals(texts: pa.Array) -> bool:
    """Return whether each numeric text (double) certainly round-trips: it has at most 15 digits and no superfluous zero."""
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
    """Return the bytes of the non-null texts, and the start and end of each."""
    texts = texts.drop_null().cast(pa.string())
    _, ends, data = texts.buffers()
    if not len(texts):
        return np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64)
    offsets = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    return content, offsets[:-1] - offsets[0], offsets[1:] - offsets[0]


def type_of_strings(values: pa.Array) -> FieldType | None:
    """Return the type of the cells of a CSV column; None if there are none."""
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
    """If all texts parse as numbers, return one that would not round-trip, or None."""
    texts = pc.unique(pc.utf8_trim_whitespace(values.drop_null()))
    try:
        texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return next((text for text in texts.to_pylist() if not is_exact_number(text)), None)


def type_of_values(values: Iterable[object]) -> FieldType | None:
    """Return the type of a JSON key's values in a sample; None if all are null or empty lists."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    if all(isinstance(value, list) for value in present):
        return _type_of_lists([element for value in present if isinstance(value, list) for element in value if element is not None])
    if any(isinstance(value, list | dict) for value in present):
        return "json"
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return "bool"
    integers = [value for value in present if isinstance(value, int)]
    if kinds == {int}:
        return "int64" if all(value in INT64 for value in integers) else "varchar"
    return "double" if kinds <= {int, float} and all(value in EXACT_INTEGERS for value in integers) else "varchar"


def mixture(values: Iterable[object]) -> bool:
    """Return whether the values mix texts with other scalars, so that only text holds them all."""
    kinds = {type(value) for value in values if value is not None}
    return str in kinds and bool(kinds & {int, float, bool})


def _type_of_lists(elements: Sequence[object]) -> FieldType | None:
    """Return an array type for lists with one kind of element, JSON for mixed ones."""
    kind = type_of_values(elements)
    if kind is None:
        return "json" if elements else None
    mixed = kind == "varchar" and {type(element) for element in elements} != {str}
    return "json" if mixed else ARRAYS.get(kind, "json")


def wider(one: FieldType | None, other: FieldType | None) -> FieldType | None:
    """Return the narrowest type that holds the values of both; None: a column that is null."""
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
    """Types of columns in several files or parts of a file, with the first occurrence of each."""

    seen: dict[str, dict[FieldType | None, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # other notes, by column

    def add(self, column: str, kind: FieldType | None, where: str) -> None:
        """Record a column's type in a file; None: all its values there are null."""
        self.seen.setdefault(column, {}).setdefault(kind, where)

    def type_of(self, column: str) -> FieldType:
        """Return the type for all files; a column that is null everywhere is JSON, which holds anything."""
        kind: FieldType | None = None
        for other in self.seen[column]:
            kind = wider(kind, other)
        return kind or "json"

    def note(self, column: str) -> str | None:
        """Return a note if files differ in the type, or if numbers are stored as texts."""
        places = {kind: where for kind, where in self.seen[column].items() if kind}
        if len(places) < 2:
            return self.notes.get(column)
        types = ", ".join(f"{spoken(kind)} in {where}" for kind, where in list(places.items())[:3])
        return f"column '{column}' is {types}: it is stored as {spoken(self.type_of(column))}"


def spoken(kind: FieldType) -> str:
    """Return a type's name in a job file."""
    return kind.replace("varchar", "text")
