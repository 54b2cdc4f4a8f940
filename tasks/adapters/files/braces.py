"""Brace expansion of file lists, as in shells and webdataset: `{00000..00099}.tar`, `{train,val}/a.tar`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from tasks.adapters.files.globs import WILD
from tasks.domain.errors import BadInput

MOST_NAMES = 1_000_000
_BRACES = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_NUMBERS = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def has_braces(uri: str) -> bool:
    """Return whether a path or URI is a list."""
    return _BRACES.search(uri) is not None


def fixed_folder(uri: str) -> str:
    """Return the folder before the first brace; the listed files are named relative to it."""
    return uri[: uri.index("{")].rpartition("/")[0]


def expand_braces(uri: str) -> list[str]:
    """Return every name of a list, each once, sorted.

    Raises:
        BadInput: it also has wildcards, or more than `MOST_NAMES` names.
    """
    if "{" in uri.partition("://")[2].partition("/")[0]:
        raise BadInput(f"source.uri: '{uri}' has braces in its bucket or host: name one")
    if WILD.search(uri):
        raise BadInput(f"source.uri: '{uri}' has braces and wildcards: use either")
    names = {uri}
    while any(map(has_braces, names)):
        listed = list(islice((other for name in names for other in _expand_first(name)), MOST_NAMES + 1))
        if len(listed) > MOST_NAMES:
            raise BadInput(f"source.uri: '{uri}' lists more than {MOST_NAMES:,} files: use a wildcard")
        names = set(listed)
    return sorted(names)


def _expand_first(name: str) -> Iterator[str]:
    match = _BRACES.search(name)
    parts = _alternatives(match[1]) if match else [""]
    begin, end = match.span() if match else (len(name), len(name))
    return (f"{name[:begin]}{part}{name[end:]}" for part in parts)


def _alternatives(inner: str) -> list[str]:
    match = _NUMBERS.fullmatch(inner)
    if not match:
        return inner.split(",")
    first, last, step = int(match[1]), int(match[2]), abs(int(match[3] or 1)) or 1
    if abs(last - first) // step >= MOST_NAMES:
        raise BadInput(f"source.uri: '{{{inner}}}' lists more than {MOST_NAMES:,} files: use a wildcard")
    padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if padded else 0
    return [f"{number:0{width}d}" for number in range(first, last + (1 if last >= first else -1), step if last >= first else -step)]
