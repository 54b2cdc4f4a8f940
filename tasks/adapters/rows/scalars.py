"""Converts a source's column to texts, numbers, booleans or JSON; whole columns at a time if all values convert.

A value that does not convert is null in the result and listed in the problems: its position and the reason.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.column_types import DOUBLE_DIGITS, as_text, is_json, json_text, json_value
from tasks.adapters.rows.inferred_types import INTEGER, are_exact_decimals, are_exact_integers, is_exact_number
from tasks.adapters.rows.row_schema import ARROW_TYPES, JSON_TEXT, VALID_TEXT
from tasks.adapters.rows.times import durations, seconds
from tasks.domain.target.fields import VARCHAR_BYTES, FieldType

Problems = dict[int, str]
EXACT_FLOATS = 2.0**53  # from here on, adjacent integers share a float


class NotUtf8(str):
    """Reason for a value that is not UTF-8: reports count these rows separately, for all columns together."""

    __slots__ = ()


NOT_UTF8 = NotUtf8("is not UTF-8")


def reason(why: str, prefix: str) -> str:
    """Return the quarantine reason of a row: the class that reports group by, then the fault of the value."""
    return "not UTF-8" if isinstance(why, NotUtf8) else f"{prefix}{why}"


@dataclass(frozen=True, slots=True)
class ScalarColumn:
    """A source's column without encodings. `json`: its strings are JSON texts; `valid`: its strings are known to be UTF-8."""

    values: pa.Array
    json: bool
    valid: bool = False


def plain(field: pa.Field, values: pa.Array) -> ScalarColumn:
    """Decode dictionaries, run lengths, views and extension types."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    json = field.metadata is not None and field.metadata.items() >= JSON_TEXT.items()
    if isinstance(values.type, pa.BaseExtensionType):
        json, values = json or is_json(values.type), values.storage
    if pa.types.is_string_view(values.type) or pa.types.is_binary_view(values.type):
        values = values.cast(pa.string() if pa.types.is_string_view(values.type) else pa.binary())
    return ScalarColumn(values, json, valid=field.metadata is not None and field.metadata.items() >= VALID_TEXT.items())


def texts(column: ScalarColumn, *, nested: bool) -> tuple[pa.Array, Problems]:
    """Convert values to strings: dates, times and durations to ISO 8601, UUIDs to their usual form, numbers as in JSON.

    Args:
        column: the values.
        nested: write lists and objects as JSON; otherwise they are problems.
    """
    values, kind = column.values, column.values.type
    if column.json:
        return each(column, lambda value: _text_of(value, nested=nested), pa.string())
    if column.valid and pa.types.is_string(kind):
        return values, {}
    if _stringlike(kind):
        strings, invalid = as_text(values)
        return strings, {} if invalid is None else dict.fromkeys(np.flatnonzero(invalid.to_numpy(zero_copy_only=False)).tolist(), NOT_UTF8)
    if pa.types.is_nested(kind):
        return each(column, lambda value: _text_of(value, nested=nested), pa.string())
    return _format_scalars(column), {}


def _format_scalars(column: ScalarColumn) -> pa.Array:
    values, kind = column.values, column.values.type
    if pa.types.is_fixed_size_binary(kind):
        return each(column, lambda value: str(uuid.UUID(bytes=value)), pa.string())[0]
    if pa.types.is_duration(kind):
        return durations(values)
    if pa.types.is_floating(kind):  # other programs write null as NaN
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
    try:
        strings = values.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return each(column, str, pa.string())[0]
    return pc.replace_substring(strings, " ", "T", max_replacements=1) if pa.types.is_timestamp(kind) else strings


def key_texts(column: ScalarColumn) -> tuple[pa.Array, Problems]:
    """Convert values to keys: the same text for any column type or file.

    Whole numbers are written with all digits: pandas turns integers into floats if the column has a null, and 1.2345678901e+10
    would be another row than 12345678901. A float that may have lost digits is a problem; NaN counts as null.
    """
    kind = column.values.type
    if column.json or pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return each(column, key_text, pa.string())
    if pa.types.is_duration(kind):  # unchanged from earlier versions: keys must stay the same
        return column.values.cast(pa.string()), {}
    return texts(column, nested=False)


def key_text(value: object) -> str | None:
    """Convert one value to a key.

    Raises:
        ValueError: it is not a key, or may have lost digits.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if abs(value) >= EXACT_FLOATS:
            raise ValueError(f"{value!r} is a float, which may have lost digits: write keys as integers or texts")
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    return str(value) if type(value) is int else _text_of(value, nested=False)


def scalars(column: ScalarColumn, kind: FieldType, *, exact: bool = True) -> tuple[pa.Array, Problems]:
    """Convert values to a scalar field's type. Texts and JSON longer than Milvus' limit are problems.

    Args:
        column: the values. For numeric fields, times become seconds since 1970 and durations seconds.
        kind: type of the field.
        exact: a text or number that would not round-trip is a problem; otherwise the nearest number is used.
    """
    if kind in ("varchar", "json"):
        converted, problems = texts(column, nested=True) if kind == "varchar" else _json(column)
        return converted, {**problems, **_too_long(converted)}
    column = ScalarColumn(seconds(column.values), column.json)
    target = ARROW_TYPES[kind]
    if kind == "double":
        return _finite(*_numbers(column, target, _exact_float_of if exact else _float_of, surely=_fits_double if exact else _fits))
    convert = _bool_of if kind == "bool" else _exact_int_of if exact else _int_of
    return _numbers(column, target, convert, surely=_fits_int64 if exact and kind == "int64" else _fits)


def _fits(values: pa.Array, numbers: pa.Array) -> bool:  # noqa: ARG001 - every number is accepted
    return True


def _fits_int64(values: pa.Array, numbers: pa.Array) -> bool:
    return not _stringlike(values.type) or are_exact_integers(values, numbers)


def _fits_double(values: pa.Array, numbers: pa.Array) -> bool:  # noqa: ARG001
    """Return whether every value certainly round-trips through a float; a vectorized check of short numbers, the usual case."""
    if pa.types.is_decimal(values.type):
        return bool(values.type.precision <= DOUBLE_DIGITS)
    return not _stringlike(values.type) or are_exact_decimals(values)


def _stringlike(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or (pa.types.is_fixed_size_binary(kind) and kind.byte_width != 16)
    )


def _numbers(
    column: ScalarColumn, target: pa.DataType, of: Callable[[Any], object], *, surely: Callable[[pa.Array, pa.Array], bool]
) -> tuple[pa.Array, Problems]:
    """Convert the whole column if all values convert and `surely` accepts the results; else one by one."""
    if not column.json and not pa.types.is_nested(column.values.type):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            numbers = column.values.cast(target)
            if surely(column.values, numbers):
                return numbers, {}
    return each(column, of, target)


def each(column: ScalarColumn, of: Callable[[Any], object], target: pa.DataType) -> tuple[pa.Array, Problems]:
    """Convert values one by one; the message of a ValueError of `of` becomes the problem."""
    problems: Problems = {}
    converted: list[object] = []
    for at, scalar in enumerate(column.values):
        try:
            value = _value(scalar, json=column.json)
            converted.append(None if value is None else of(value))
        except UnicodeDecodeError:
            problems[at] = NOT_UTF8
            converted.append(None)
        except (ValueError, TypeError, OverflowError) as error:
            problems[at] = str(error)
            converted.append(None)
    return pa.array(converted, target), problems


def _value(scalar: pa.Scalar, *, json: bool) -> Any:
    value = _nested(scalar) if pa.types.is_nested(scalar.type) else scalar.as_py()
    return json_value(value) if json and value is not None else value


def _nested(scalar: pa.Scalar) -> Any:
    """Convert maps to objects, or to lists of pairs if a key occurs twice."""
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except KeyError:
        return scalar.as_py()


def _text_of(value: object, *, nested: bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict) and not nested:
        raise ValueError(f"holds {'a list' if isinstance(value, list) else 'an object'}, not a text")
    if isinstance(value, float):  # formatted as in a column of floats only, whatever else the column holds
        return str(pa.scalar(value).cast(pa.string()).as_py())
    return json_text(value)


def _json(column: ScalarColumn) -> tuple[pa.Array, Problems]:
    return texts(ScalarColumn(column.values, json=False), nested=True) if column.json else each(column, json_text, pa.string())


def _int_of(value: Any) -> int:
    number = None if isinstance(value, bool) else _try(int, value)
    if number is None or (isinstance(value, float | Decimal) and number != value) or not -(2**63) <= number < 2**63:
        raise ValueError(f"{shown(value)} is not a 64-bit integer")
    return int(number)


def _exact_int_of(value: Any) -> int:
    if isinstance(value, str) and not re.fullmatch(INTEGER, value.strip()):
        raise ValueError(_inexact(value) if _try(int, value) is not None else f"{shown(value)} is not a 64-bit integer")
    return _int_of(value)


def _float_of(value: Any) -> float:
    number = None if isinstance(value, bool) else _try(float, value)
    if number is None:
        raise ValueError(f"{shown(value)} is not a number")
    return float(number)


def _exact_float_of(value: Any) -> float:
    number = _float_of(value)
    same = is_exact_number(value.strip()) if isinstance(value, str) else _round_trips(value, number)
    if not same and not math.isinf(number):
        raise ValueError(_inexact(value))
    return number


def _round_trips(value: Any, number: float) -> bool:
    if isinstance(value, Decimal):
        return Decimal(repr(number)) == value
    return not isinstance(value, int) or number == value


def _inexact(value: object) -> str:
    return f"{shown(value)} would not round-trip as a number: see source.types"


def _bool_of(value: Any) -> bool:
    boolean = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
    if boolean is None:
        raise ValueError(f"{shown(value)} is neither true nor false")
    return boolean


def _try(kind: Callable[[Any], Any], value: Any) -> Any:
    try:
        return kind(value)
    except (ValueError, TypeError, OverflowError):
        return None


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _finite(values: pa.Array, problems: Problems) -> tuple[pa.Array, Problems]:
    """Replace NaN by null, as other programs mean it; report infinity, which Milvus refuses."""
    if pc.all(pc.is_finite(values)).as_py() is not False:
        return values, problems
    infinite = [at for at, value in enumerate(values.to_pylist()) if value is not None and math.isinf(value)]
    finite = pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
    return finite, {**problems, **dict.fromkeys(infinite, "is infinite")}


def _too_long(values: pa.Array) -> Problems:
    sizes = pc.binary_length(values)
    if (pc.max(sizes).as_py() or 0) <= VARCHAR_BYTES:
        return {}
    return {at: f"has {size} bytes, {VARCHAR_BYTES} allowed" for at, size in enumerate(sizes.to_pylist()) if (size or 0) > VARCHAR_BYTES}
