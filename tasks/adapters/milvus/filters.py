"""Filters that are data, and keys in pages.

pymilvus' own `ids=` and its query iterator paste keys into expressions as they are (a key with a quote breaks out of
both, measured on 2.6 and 3.0), so neither is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

# What a query may return at most (Milvus' `proxy.maxResultWindow`).
PAGE = 16_384
MOST_COPIES = 100  # of one key: a page with fewer keys than a hundredth of what it may hold is not counted

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def literal(value: str) -> str:
    """A string literal of Milvus' filter language for exactly this value.

    Milvus Lite knows no escapes but these, and takes every other character as it is; servers do too.
    """
    return f'"{value.translate(_ESCAPES)}"'


def among(field: str, values: Iterable[str]) -> str:
    """True where the field is one of the values."""
    return f"{field} in [{', '.join(map(literal, values))}]"


def equals(field: str, value: str) -> str:
    """True where the field is the value."""
    return f"{field} == {literal(value)}"


def beyond(field: str, values: Iterable[str], *, at_once: int = 1_000) -> Iterator[str]:
    """Expressions that are together true where the field is none of the values, each once, however many values there are."""
    known, border = sorted(set(values)), ""
    for first in range(0, len(known), at_once):
        some = known[first : first + at_once]
        yield f"{border}{field} <= {literal(some[-1])} and not ({among(field, some)})"
        border = f"{field} > {literal(some[-1])} and "
    yield border.removesuffix(" and ") or f"{field} >= {literal('')}"


def keys_in_pages(query: Callable[[str, int], list[str]], where: str, page: int = PAGE, *, count: Callable[[str], int]) -> Iterator[str]:
    """Every key for which an expression is true, each once.

    A query returns at most a page, on Milvus Lite in no order, so that "after the last key" would skip some. A full page
    is thrown away but for its median, which halves the range of keys; a page that is not full is all of its range. Not
    where keys are doubled: a server takes a page of rows first and then leaves each key once (2.3.5), so rows are counted.

    Args:
        query: keys for an expression, at most so many.
        where: the expression.
        page: what a query may return.
        count: rows for an expression.
    """
    waiting = [where]
    while waiting:
        expression = waiting.pop()
        keys = query(expression, page)
        found = sorted(set(keys))
        if not found or (len(keys) < page and (len(keys) < page // MOST_COPIES or count(expression) < page)):
            yield from dict.fromkeys(keys)
            continue
        middle = literal(found[(len(found) - 1) // 2])
        if len(found) == 1:
            yield found[0]
            waiting.append(f"({expression}) and id != {middle}")
        else:
            waiting += [f"({expression}) and id > {middle}", f"({expression}) and id <= {middle}"]
