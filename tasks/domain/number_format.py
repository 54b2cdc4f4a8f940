"""Format numbers for people."""

from __future__ import annotations

SECONDS_IN_AN_HOUR = 3600


def duration(seconds: float) -> str:
    """Format a duration: 0.8 s, 42 s, 3 min 12 s, 2 h 5 min."""
    if round(seconds) < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: float) -> str:
    """Format bytes in powers of a thousand: 812 B, 1.5 MB, 24 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if round(count) < 1000:
            return f"{count:.1f} {unit}" if count < 9.95 and unit != "B" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} PB"


def number(count: float) -> str:
    """Format a count: 1,234,567."""
    return f"{count:,.0f}"


def money(dollars: float) -> str:
    """Format dollars: $1.50, $12,346; below $0.10 with two significant digits: $0.012."""
    if dollars and dollars < 0.1:
        return f"${dollars:.2g}" if dollars >= 0.0001 else "under $0.0001"
    return f"${dollars:,.0f}" if dollars >= 1000 else f"${dollars:,.2f}"
