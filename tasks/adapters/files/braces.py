"""Lists of files as shells and webdataset write them: `{00000..00099}.tar`, `{train,val}/a.tar`."""

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
    """Whether a path or URI is a list."""
    return _BRACES.search(uri) is not None


def fixed_folder(uri: str) -> str:
    """The folder before the first brace, which the names of the listed files are below."""
    return uri[: uri.index("{")].rpartition("/")[0]


def expand_braces(uri: str) -> list[str]:
    """Every name of a list, each once, sorted.

    Raises:
        BadInput: it has wildcards as well, or more than `MOST_NAMES`.
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
    found = _BRACES.search(name)
    parts = _alternatives(found[1]) if found else [""]
    begin, end = found.span() if found else (len(name), len(name))
    return (f"{name[:begin]}{part}{name[end:]}" for part in parts)


def _alternatives(inner: str) -> list[str]:
    found = _NUMBERS.fullmatch(inner)
    if not found:
        return inner.split(",")
    first, last, step = int(found[1]), int(found[2]), abs(int(found[3] or 1)) or 1
    if abs(last - first) // step >= MOST_NAMES:
        raise BadInput(f"source.uri: '{{{inner}}}' lists more than {MOST_NAMES:,} files: use a wildcard")
    padded = any(len(end.lstrip("-")) > 1 and end.lstrip("-").startswith("0") for end in (found[1], found[2]))
    width = max(len(found[1]), len(found[2])) if padded else 0
    return [f"{number:0{width}d}" for number in range(first, last + (1 if last >= first else -1), step if last >= first else -step)]
