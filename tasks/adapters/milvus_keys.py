"""Filters that are data, and keys in pages.

pymilvus' own `ids=` and its query iterator paste keys into expressions as they are (a key with a quote breaks out of
both, measured on 2.6 and 3.0), so neither is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

# What a query may return at most (Milvus' `proxy.maxResultWindow`).
PAGE = 16_384

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def literal(value: str) -> str:
    """A string in Milvus' filter language that stands for exactly this value.

    Milvus Lite knows no escapes but these, and takes every other character as it is; servers do too.
    """
    return f'"{value.translate(_ESCAPES)}"'


def among(field: str, values: Iterable[str]) -> str:
    """True where the field is one of the values."""
    return f"{field} in [{', '.join(map(literal, values))}]"


def equals(field: str, value: str) -> str:
    """True where the field is the value."""
    return f"{field} == {literal(value)}"


def keys_in_pages(query: Callable[[str, int], list[str]], where: str, page: int = PAGE) -> Iterator[str]:
    """Every key for which an expression is true, each once.

    A query returns at most a page, on Milvus Lite in no order, so that "after the last key" would skip some. A full page
    is thrown away but for its median, which halves the range of keys; a page that is not full is all of its range.

    Args:
        query: keys for an expression, at most so many.
        where: the expression.
        page: what a query may return.
    """
    waiting = [where]
    while waiting:
        expression = waiting.pop()
        keys = query(expression, page)
        if len(keys) < page:
            yield from dict.fromkeys(keys)
            continue
        found = sorted(set(keys))
        middle = literal(found[(len(found) - 1) // 2])
        waiting += [f"({expression}) and id > {middle}", f"({expression}) and id <= {middle}"]
