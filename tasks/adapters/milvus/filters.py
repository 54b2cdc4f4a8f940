"""Filter expressions with escaped values, and paged reading of keys.

pymilvus' own `ids=` and its query iterator insert keys into expressions without escaping (a key with a quote breaks out of
both, measured on 2.6 and 3.0), so neither is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

# Most rows that a query may return (Milvus' `proxy.maxResultWindow`).
PAGE = 16_384
MOST_COPIES = 100  # of one key: a page with fewer keys than a hundredth of its capacity needs no count

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def literal(value: str) -> str:
    """A string literal of Milvus' filter language for exactly this value.

    Milvus Lite supports only these escapes and takes every other character literally; servers do, too.
    """
    return f'"{value.translate(_ESCAPES)}"'


def among(field: str, values: Iterable[str]) -> str:
    """An expression that matches rows whose field is one of the values."""
    return f"{field} in [{', '.join(map(literal, values))}]"


def equals(field: str, value: str) -> str:
    """An expression that matches rows whose field equals the value."""
    return f"{field} == {literal(value)}"


def beyond(field: str, values: Iterable[str], *, at_once: int = 1_000) -> Iterator[str]:
    """Disjoint expressions that together match the rows whose field is none of the values, for any number of values."""
    known, border = sorted(set(values)), ""
    for first in range(0, len(known), at_once):
        some = known[first : first + at_once]
        yield f"{border}{field} <= {literal(some[-1])} and not ({among(field, some)})"
        border = f"{field} > {literal(some[-1])} and "
    yield border.removesuffix(" and ") or f"{field} >= {literal('')}"


def keys_in_pages(query: Callable[[str, int], list[str]], where: str, page: int = PAGE, *, count: Callable[[str], int]) -> Iterator[str]:
    """Every key that an expression matches, each once.

    A query returns at most one page, on Milvus Lite in no order, so continuing "after the last key" would skip some. Of a full page
    only the median is used, which halves the range of keys; a page that is not full covers its range. Duplicate keys are
    the exception: a server takes a page of rows first and then keeps each key once (2.3.5), so rows are counted.

    Args:
        query: returns the keys for an expression, up to a limit.
        where: the expression.
        page: most rows that a query may return.
        count: returns the number of rows for an expression.
    """
    waiting = [where]
    while waiting:
        expression = waiting.pop()
        keys = query(expression, page)
        ordered = sorted(set(keys))
        if not ordered or (len(keys) < page and (len(keys) < page // MOST_COPIES or count(expression) < page)):
            yield from dict.fromkeys(keys)
            continue
        middle = literal(ordered[(len(ordered) - 1) // 2])
        if len(ordered) == 1:
            yield ordered[0]
            waiting.append(f"({expression}) and id != {middle}")
        else:
            waiting += [f"({expression}) and id > {middle}", f"({expression}) and id <= {middle}"]
