"""Converts durations to ISO 8601, and times and durations to seconds."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def durations(values: pa.Array) -> pa.Array:
    """Format durations as ISO 8601: PT1H30M, PT0.25S, -PT5S."""
    unit = UNITS[values.type.unit]
    return pa.array([None if count is None else _iso(count, unit) for count in values.cast(pa.int64()).to_pylist()], pa.string())


def _iso(count: int, unit: int) -> str:
    whole, rest = divmod(abs(count), unit)
    fraction = f".{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    hours, minutes, secs = whole // 3600, whole // 60 % 60, f"{whole % 60}{fraction}"
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else "", f"{secs}S" if secs != "0" else ""]
    return f"{'-' if count < 0 else ''}PT{''.join(parts) or '0S'}"


def seconds(values: pa.Array) -> pa.Array:
    """Convert times (since 1970) and durations to seconds, integers if all are whole; other values are unchanged."""
    kind = values.type
    if pa.types.is_date(kind):
        kind, values = pa.timestamp("s"), values.cast(pa.timestamp("s"))
    if not (pa.types.is_timestamp(kind) or pa.types.is_duration(kind)):
        return values
    counts, unit = values.cast(pa.int64()), UNITS[kind.unit]
    whole = pc.divide(counts, unit)
    if pc.all(pc.equal(pc.multiply(whole, unit), counts)).as_py() is not False:
        return whole
    return pc.divide(counts.cast(pa.float64(), safe=False), float(unit))
