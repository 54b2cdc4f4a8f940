"""Types of source columns, JSON conversion, and the check for missing columns."""

from __future__ import annotations

import codecs
import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.row_schema import JSON_TEXT
from tasks.domain.errors import BadInput
from tasks.domain.target.fields import ARRAYS, FieldType

INT64_DIGITS = 18  # decimal digits that always fit
DOUBLE_DIGITS = 15  # decimal digits that always round-trip
MOST_NESTED = 500  # nesting depth of a JSON value
_LONG_NUMBER = re.compile(rb"[0-9]{19}")  # also matches a text with such digits, which only costs a slower parse


class NestedTooDeepError(ValueError):
    """A JSON value that could be read but not written again."""

    def __init__(self) -> None:
        super().__init__(f"lists and objects are nested more than {MOST_NESTED} levels deep")


def check_columns(wanted: Iterable[str], available: Sequence[str], path: str, *, cure: str = "") -> None:
    """Check that a file has each wanted column exactly once.

    Raises:
        BadInput: a column is missing or occurs twice; names the file, its columns and the nearest match. `cure` is appended
            for a missing one, with %s replaced by its name.
    """
    for column in wanted:
        if available.count(column) > 1:
            raise BadInput(f"column '{column}' is in {path} {available.count(column)} times: rename one")
        if column not in available:
            raise BadInput(
                f"column '{column}' is not in {path}: it has {_listed(available)}{_nearest(column, available)}{cure.replace('%s', column)}"
            )


def _listed(available: Sequence[str]) -> str:
    shown = ", ".join(available[:50]) or "no columns"
    return shown if len(available) <= 50 else f"{shown} and {len(available) - 50} more"


def _nearest(column: str, available: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, available, n=1) or [name for name in available if name.lower() == column.lower()]
    return f" (did you mean '{near[0]}'?)" if near else ""


def field_type(kind: pa.DataType) -> FieldType:
    """Return the scalar field type of an Arrow type."""
    kind = plain_type(kind)
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "varchar" if pa.types.is_uint64(kind) else "int64"  # the upper half of uint64 does not fit
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_decimal(kind):
        return _decimal_type(kind)
    if is_list(kind):
        return ARRAYS.get(field_type(kind.value_type), "json")
    return "json" if pa.types.is_nested(kind) or pa.types.is_null(kind) or is_json(kind) else "varchar"


def _decimal_type(kind: pa.DataType) -> FieldType:
    """Return a number type if it holds every digit, else text."""
    if kind.scale <= 0 and kind.precision - kind.scale <= INT64_DIGITS:
        return "int64"
    return "double" if kind.precision <= DOUBLE_DIGITS else "varchar"


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's list types."""
    forms = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view, pa.types.is_large_list_view)
    return any(form(kind) for form in forms)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type without its dictionary or run-length encoding."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return kind


def is_json(kind: pa.DataType) -> bool:
    """Return whether a type is Arrow's own JSON type, which Parquet files can contain."""
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json"


def as_text(values: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Decode bytes (or unchecked strings). Returns strings, and a mask of the values that are not UTF-8, which become null."""
    raw = values.cast(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count, raw.offset)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        decoded = [None if value is None else _decoded(value) for value in raw.to_pylist()]
        strings = pa.array(decoded, pa.string())
        return strings, pc.and_(pc.is_null(strings), pc.is_valid(raw))
    return texts, None


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def from_objects(objects: Sequence[dict[str, object]], columns: Sequence[str]) -> dict[str, tuple[pa.Field, pa.Array]]:
    """Convert Python objects to columns; an absent key is null, and mixed or nested values become JSON texts."""
    return {column: _column(column, [o.get(column) for o in objects]) for column in columns}


def _column(name: str, values: list[object]) -> tuple[pa.Field, pa.Array]:
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        array = None
    if array is None or pa.types.is_nested(array.type) or (pa.types.is_floating(array.type) and bool in set(map(type, values))):
        texts = pa.array([None if value is None else json_text(_finite(value)) for value in values], pa.string())
        return pa.field(name, pa.string(), metadata=JSON_TEXT), texts
    return pa.field(name, array.type), array


def _finite(value: object) -> object:
    """Replace infinity, which JSON lacks, by its text: as a number it is a problem, as in a column of floats."""
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def json_text(value: object) -> str:
    """Return a value as JSON; values that JSON lacks (dates, decimals, identifiers) become text."""
    try:
        return orjson.dumps(value, default=_as_text, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits, which the standard library can write
        return json.dumps(value, default=_as_text, ensure_ascii=False, separators=(",", ":"))


def json_value(text: str | bytes) -> Any:
    """Parse a JSON text with exact integers of any size: orjson turns integers of more than 64 bits into floats.

    Raises:
        ValueError: it is not JSON, has half of a surrogate pair, or is nested too deep.
    """
    raw = text.encode() if isinstance(text, str) else text
    try:
        value = checked_surrogates(json.loads(raw.decode())) if _LONG_NUMBER.search(raw) else orjson.loads(raw)
    except RecursionError:
        raise NestedTooDeepError from None
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise NestedTooDeepError from None
        raise
    return checked_depth(value) if raw.count(b"[") + raw.count(b"{") > MOST_NESTED else value


def lenient_json(data: bytes) -> Any:
    """Parse like `json_value`, but accept a leading byte order mark, NaN and Infinity, which other programs write."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return json_value(data)
    except NestedTooDeepError:
        raise
    except ValueError:
        return checked_surrogates(checked_depth(json.loads(data.decode())))


def checked_surrogates(value: Any) -> Any:
    """Return the value. Raises UnicodeEncodeError if it has half of a surrogate pair, which the standard library accepts and orjson rejects."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


def checked_depth(value: Any) -> Any:
    """Return the value. Raises NestedTooDeepError if lists and objects are nested deeper than can be written again."""
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
        if depth > MOST_NESTED:
            raise NestedTooDeepError
    return value


def _inner(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _as_text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else str(value)
