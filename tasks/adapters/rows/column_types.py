"""Columns of a source: their types, and the message for a missing one."""

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

INT64_DIGITS = 18  # any number of so many decimal digits is one
DOUBLE_DIGITS = 15  # so many come back
MOST_NESTED = 500  # lists and objects in each other, of a JSON value
_LONG_NUMBER = re.compile(rb"[0-9]{19}")  # or a text with such digits, which costs a slower look


class NestedTooDeepError(ValueError):
    """A JSON value that could be read and not be written again."""

    def __init__(self) -> None:
        super().__init__(f"lists and objects in each other, more than {MOST_NESTED} levels")


def check_columns(wanted: Iterable[str], there: Sequence[str], path: str, *, cure: str = "") -> None:
    """Hold a file's columns against those that are wanted.

    Raises:
        BadInput: one is missing or there twice; names the file, the columns that it has and the nearest of them. `cure`: is appended
            for a missing one, with %s replaced by its name.
    """
    for column in wanted:
        if there.count(column) > 1:
            raise BadInput(f"column '{column}' is in {path} {there.count(column)} times: rename one")
        if column not in there:
            raise BadInput(
                f"column '{column}' is not in {path}: it has {_listed(there)}{_nearest(column, there)}{cure.replace('%s', column)}"
            )


def _listed(there: Sequence[str]) -> str:
    shown = ", ".join(there[:50]) or "no columns"
    return shown if len(there) <= 50 else f"{shown} and {len(there) - 50} more"


def _nearest(column: str, there: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, there, n=1) or [name for name in there if name.lower() == column.lower()]
    return f" (did you mean '{near[0]}'?)" if near else ""


def field_type(kind: pa.DataType) -> FieldType:
    """What an Arrow type becomes as a scalar field."""
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
    """A number where it holds every digit, and text where it does not."""
    if kind.scale <= 0 and kind.precision - kind.scale <= INT64_DIGITS:
        return "int64"
    return "double" if kind.precision <= DOUBLE_DIGITS else "varchar"


def is_list(kind: pa.DataType) -> bool:
    """A list of any of Arrow's forms."""
    forms = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view, pa.types.is_large_list_view)
    return any(form(kind) for form in forms)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without its dictionary or run-length encoding."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return kind


def is_json(kind: pa.DataType) -> bool:
    """Arrow's own JSON type, which Parquet files can carry."""
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.json"


def as_text(values: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Bytes (or unchecked strings) as strings, and a mask of those that are not UTF-8, which are null in the first."""
    raw = values.cast(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count, raw.offset)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        decoded = [None if value is None else _decoded(value) for value in raw.to_pylist()]
        found = pa.array(decoded, pa.string())
        return found, pc.and_(pc.is_null(found), pc.is_valid(raw))
    return texts, None


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def from_objects(objects: Sequence[dict[str, object]], columns: Sequence[str]) -> dict[str, tuple[pa.Field, pa.Array]]:
    """Columns of Python objects; an absent key is null, and mixed or nested values travel as JSON texts."""
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
    """Infinity, for which JSON has no form, as the text of it: where it is to be a number it is a problem as it is in a column of floats."""
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def json_text(value: object) -> str:
    """JSON of a value; what JSON has no form for (dates, decimals, identifiers) becomes its text."""
    try:
        return orjson.dumps(value, default=_as_text, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits, which the standard library writes as it is
        return json.dumps(value, default=_as_text, ensure_ascii=False, separators=(",", ":"))


def json_value(text: str | bytes) -> Any:
    """The value of a JSON text, integers of any size digit by digit: orjson makes floats of those of more than 64 bits.

    Raises:
        ValueError: it is no JSON, has half of a surrogate pair, or is nested too deep.
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
    """As `json_value`, also with a byte order mark before it, and with NaN or Infinity in it, as others write them."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return json_value(data)
    except NestedTooDeepError:
        raise
    except ValueError:
        return checked_surrogates(checked_depth(json.loads(data.decode())))


def checked_surrogates(value: Any) -> Any:
    """The value. Raises UnicodeEncodeError where a text in it has half of a surrogate pair, which the standard library reads as orjson does not."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


def checked_depth(value: Any) -> Any:
    """The value. Raises NestedTooDeepError where lists and objects stand in each other deeper than can be written again."""
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
